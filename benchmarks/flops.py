"""Floating-point operations, counted by hand: a multiply-add is two.

Of one time step of a spectrum, and at the end of a step of training.

Matrix work is counted, of order H^2 or more; element-wise work on a frame, of order H K, is not.
H units and N rows of the frame in a layer, K exponents of it, E wide input, L = layers * H.
"""

from typing import NamedTuple

from cases import Case

from lsh_jax.config import ModelConfig
from lsh_jax.lyapunov.recipe import checked_recipe

_GATES = {"lstm": 4, "gru": 3, "tanh": 1, "rhn": 2}  # a coupled RHN has h and t


def householder(N: int, K: int) -> float:
    """R (2 N K^2 - 2 K^3 / 3), and as much again for an explicit Q."""
    return 4 * N * K**2 - 4 * K**3 / 3


def lu(N: int, K: int) -> float:
    """Gaussian elimination of an N x K matrix; pivoting compares and counts nothing."""
    return N * K**2 - K**3 / 3


def solve(N: int, K: int) -> float:
    """R alone by Householder, then Q = Z R^-1 by a triangular solve."""
    return householder(N, K) / 2 + N * K**2


def cholesky(N: int, K: int) -> float:
    """The Gram matrix by a plain product, its factor, then Q = Z R^-1."""
    return 2 * N * K**2 + K**3 / 3 + N * K**2


FACTORIZATIONS = {"householder": householder, "lu": lu, "solve": solve, "cholesky": cholesky}


def products(case: Case) -> float:
    """J Q of one layer and one column of the batch, with the structure of J used.

    2 H^2 K for each H x H block that meets a frame of K columns: one for the hidden state of an
    LSTM, a GRU and a tanh RNN; two for the full state of an LSTM (A and U_o both meet the rows of
    h, the rest is diagonal); one for each micro-step of an RHN.
    """
    return 2 * case.hidden_size**2 * case.num_exponents * num_blocks(case)


def num_blocks(case: Case) -> int:
    """H x H blocks that meet the frame in one step of a layer."""
    if case.cell == "lstm":
        return 2 if case.state == "full" else 1
    return case.depth


def build(case: Case) -> float:
    """J of one layer: row-scaled blocks of the recurrent weights, added.

    A scaled block costs H^2 and so does adding it. The full state of an LSTM leaves U_o as it is,
    and a tanh RNN scales the rows of its product instead.
    """
    H = case.hidden_size
    if case.cell == "tanh":
        return 0.0
    if case.cell == "lstm":
        return (5 if case.state == "full" else 7) * H**2
    blocks = _GATES[case.cell]
    return (2 * blocks - 1) * H**2 * case.depth


def forward(case: Case) -> float:
    """One step of one layer: the input product once, the recurrent product twice.

    The model runs through all layers to know what drives each of them, then every layer runs again
    next to its frame. The input is as wide as the layer here.
    """
    H, gates = case.hidden_size, _GATES[case.cell]
    return 2 * H * gates * H * (1 + 2 * case.depth)


def executed(case: Case, backend: str, num_qr: int) -> dict[str, float]:
    """How many factorizations of each kind the library makes in a step, on average.

    Args:
      case: the sizes and `qr`; the library's own rule says what "auto" takes.
      backend: "cpu", "gpu" or "tpu".
      num_qr: intervals that the run had, as its result tells.
    """
    config = ModelConfig(cell=case.cell, hidden_size=case.hidden_size, num_layers=case.num_layers)
    shape = (case.length, case.batch)
    recipe = checked_recipe(
        config, shape, case.state, case.num_exponents, 0, True, case.qr, None, None
    )
    if recipe.qr_every > 1:
        return {"householder": num_qr / case.length, "lu": 1.0}
    every_step = {"auto": "solve" if backend == "gpu" else "householder"}
    return {every_step.get(recipe.qr, recipe.qr): 1.0}


def library(case: Case, factorizations: dict[str, float]) -> dict[str, float]:
    """Flops of the library per step, over all layers and the batch, by part.

    Args:
      case: the sizes.
      factorizations: how many of each kind a step takes, on average: {"householder": 1.0}.
    """
    copies = case.num_layers * case.batch
    N, K = case.size, case.num_exponents
    factor = sum(share * FACTORIZATIONS[name](N, K) for name, share in factorizations.items())
    parts = {
        "forward": forward(case),
        "build": build(case),
        "products": products(case),
        "factorizations": factor,
    }
    return {name: copies * value for name, value in parts.items()}


def roofline(case: Case, factorization: str) -> dict[str, float]:
    """Flops of the bare operations per step: the products and one factorization of that name."""
    copies = case.num_layers * case.batch
    factor = FACTORIZATIONS[factorization](case.size, case.num_exponents)
    return {"products": copies * products(case), "factorizations": copies * factor}


def dense_products(num_layers: int) -> int:
    """H x H x H products that build the stack's J from dense diagonals, as the authors do.

    Seven for the recurrent block of a layer: one of two diagonals, one for each of four gates, the
    two of dh'/dc'. Six for the derivative by the layer's input (one product of diagonals fewer),
    and one for each block of the layers below that it is chained to: 7 + 14 for two layers.
    """
    return 7 * num_layers + sum(6 + layer for layer in range(1, num_layers))


def torch(case: Case, name: str) -> dict[str, float]:
    """Flops of a PyTorch baseline per step, over the batch, by part; N = L, K of the whole stack.

    "torch_rows" scales rows and multiplies only to chain the layers. "torch_dense" multiplies by
    dense diagonals throughout, those of the signs of R too: 2 L K^2 + 2 K^3.
    """
    H, layers = case.hidden_size, case.num_layers
    L, K = layers * H, layers * case.num_exponents
    chained = layers * (layers - 1) // 2
    if name == "torch_dense":
        built = dense_products(layers) * 2 * H**3
        signs = 2 * L * K**2 + 2 * K**3
    else:
        built = chained * 2 * H**3 + (2 * layers - 1) * 7 * H**2
        signs = 0
    parts = {
        "forward": layers * 16 * H**2,
        "build": built,
        "products": 2 * L**2 * K + signs,
        "factorizations": householder(L, K),
    }
    return {part: case.batch * value for part, value in parts.items()}


class Product(NamedTuple):
    """A matrix product of a step of training, [m, k] times [k, n]."""

    part: str
    m: int
    k: int
    n: int
    factors: str = "a b"
    """How the two arrays enter: "a b", "aT b" or "a bT", T for one that lies transposed; "b a" is
    the same product of both transposed."""
    steps: int = 0
    """How often in turn, each after the last, or 0 for one product over all steps."""
    matrices: int = 1
    """By which a step multiplies, one micro-step each."""

    @property
    def flops(self) -> float:
        """Of all its steps and micro-steps."""
        return 2 * self.m * self.k * self.n * max(self.steps, 1) * self.matrices


def train_products(config: ModelConfig, batch: int, bptt: int) -> dict[Product, int]:
    """The products of one step of training, forward and backward, and how many of each there are.

    Every matrix that meets the activations of a token forward meets their gradient backward, and
    the two make its own gradient: 6 flops a weight and token.

    Args:
      config: the model.
      batch: columns B.
      bptt: steps T of a window.
    """
    found: dict[Product, int] = {}

    def add(*products: Product) -> None:
        for product in products:
            found[product] = found.get(product, 0) + 1

    def affine(part: str, below: int, above: int) -> None:
        rows = batch * bptt
        add(
            Product(part, rows, below, above),
            Product(f"{part}, gradient of its input", rows, above, below, "a bT"),
            Product(f"{part}, gradient of its matrix", below, rows, above, "aT b"),
        )

    below = config.embed_size
    for width in config.widths:
        gates = _GATES[config.cell] + (config.cell == "rhn" and not config.coupled)
        G, turns = gates * width, {"steps": bptt, "matrices": config.depth}
        affine("input", below, G)
        add(
            Product("recurrent", G, width, batch, "aT b", **turns),
            Product("recurrent, gradient of the state", width, G, batch, **turns),
            Product(
                "recurrent, gradient of the matrix",
                width,
                batch * bptt,
                G,
                "aT b",
                matrices=config.depth,
            ),
        )
        below = width
    affine("decoder", below, config.vocab_size)
    return found
