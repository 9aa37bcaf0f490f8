"""What does sparsity save once a model is trained: bytes on disk, and time a token?

    python benchmarks/latency.py --out=latency.jsonl
    python benchmarks/latency.py --hidden-size 650 --sparsity 0.67 0.9 0.99
    python benchmarks/latency.py --smoke

A JSON line a case: an LSTM of two layers with random weights and masks of one density, a token at a
time (batch 1), its carry fed back. `bytes`: the files of `lsh_jax.export_model`, with the names of
words. `latency_ms`, by how a step is computed: `dense`, the jitted model with zeros multiplied;
`masked`, the same with the masks applied at every step; `csr`, live weights alone by SciPy;
`numpy`, the program of `csr` on dense matrices, which tells sparsity from the framework; `bcsr`,
live weights by `jax.experimental.sparse`. They take turns in one process, a block of calls each,
which ends early after a second; the first call of a block is left out. Method and results:
benchmarks/README.md.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the commands have it; SciPy's CSR has one

import argparse
import importlib.metadata
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from turns import digits

from lsh_jax import ModelConfig, apply_masks, export_csr, make_language_model
from lsh_jax.cells import lstm_update
from lsh_jax.csr_model import CSRModel, csr_carry, csr_step, read_csr
from lsh_jax.export_model import FORMATS, export_model
from lsh_jax.language_models import layer_names
from lsh_jax.machine import visible_cores
from lsh_jax.saved_model import SavedModel

_BLOCK_S = 1.0  # after which a block ends, whatever calls are left of it

Step = Callable[[int, Any], tuple[Any, Any]]  # (token, carry) -> (logits [V], carry), to the end


class Program(NamedTuple):
    """A way to compute a step."""

    step: Step
    carry: Any  # before the first token


def random_model(hidden: int, vocab: int, sparsity: float) -> SavedModel:
    """Two LSTM layers; every matrix has the same share of live weights, at random."""
    model = make_language_model(ModelConfig("lstm", vocab, hidden, hidden, 2))
    rng = np.random.default_rng(0)
    params = model.init(jax.random.key(0))
    masks = jax.tree.map(
        lambda leaf: jnp.asarray((rng.random(leaf.shape) >= sparsity) | (leaf.ndim < 2)), params
    )
    words = tuple(f"word{index}" for index in range(vocab))
    return SavedModel(model, apply_masks(params, masks), masks, words)


def jitted(apply: Callable[..., Any], weights: Any, carry: Any) -> Program:
    """A program of the weights, ids [1, 1] and the carry."""
    compiled = jax.jit(apply)

    def step(token: int, carry: Any) -> tuple[Any, Any]:
        return jax.block_until_ready(compiled(weights, np.array([[token]], np.int32), carry))

    return Program(step, carry)


def by_numpy(model: CSRModel) -> Program:
    return Program(lambda token, carry: csr_step(model, token, carry), csr_carry(model))


def by_bcsr(saved: SavedModel) -> Program:
    """The step of a two-layer LSTM with the matrices of JAX's experimental sparse module."""
    names = layer_names(saved.model.config)
    params = dict(saved.params)
    for name in names:
        layer = params[name]
        params[name] = {**layer, **{W: sparse.BCSR.fromdense(layer[W].T) for W in ("W", "U")}}
    params["decoder"] = {
        **params["decoder"],
        "W": sparse.BCSR.fromdense(saved.params["decoder"]["W"].T),
    }

    def apply(params: Any, tokens: Any, carry: Any) -> tuple[Any, Any]:
        x, carries = params["embedding"]["table"][tokens[0, 0]], []
        for name, (h, c) in zip(names, carry, strict=True):
            own = params[name]
            x, c = lstm_update(own["W"] @ x + own["U"] @ h[0] + own["b"], (h[0], c[0]))
            carries.append((x[None], c[None]))
        return params["decoder"]["W"] @ x + params["decoder"]["b"], tuple(carries)

    return jitted(apply, params, saved.model.init_carry(1))


def programs(saved: SavedModel, folder: pathlib.Path) -> dict[str, Program]:
    """All ways to compute a step of one model."""
    apply, carry = saved.model.apply, saved.model.init_carry(1)
    export_csr(folder / "sparse.npz", saved)
    whole = jax.tree.map(jnp.ones_like, saved.masks)
    export_csr(folder / "dense.npz", saved._replace(masks=whole))
    return {
        "dense": jitted(apply, saved.params, carry),
        "masked": jitted(
            lambda weights, tokens, carry: apply(apply_masks(*weights), tokens, carry),
            (saved.params, saved.masks),
            carry,
        ),
        "csr": by_numpy(read_csr(folder / "sparse.npz")),
        "numpy": by_numpy(read_csr(folder / "dense.npz")),
        "bcsr": by_bcsr(saved),
    }


def measure(
    found: Mapping[str, Program], vocab: int, blocks: int, calls: int
) -> dict[str, dict[str, float]]:
    """Milliseconds a token: median, quartiles and least of all calls, in turns of a block."""
    rng = np.random.default_rng(1)
    carries = {name: program.carry for name, program in found.items()}
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for block in range(blocks + 1):  # the first to compile
        for name, (step, _) in found.items():
            started = time.perf_counter()
            for call, token in enumerate(rng.integers(vocab, size=calls + 1).tolist()):
                began = time.perf_counter()
                _, carries[name] = step(token, carries[name])
                ended = time.perf_counter()
                if block and call:
                    seconds[name].append(ended - began)
                if call and ended - started > _BLOCK_S:
                    break
    ranks = {"median": 50, "low_quartile": 25, "high_quartile": 75, "least": 0}
    return {
        name: {rank: digits(np.percentile(own, at) * 1e3) for rank, at in ranks.items()}
        | {"calls": len(own)}
        for name, own in seconds.items()
    }


def largest_error(found: Mapping[str, Program]) -> float:
    """How far the logits of any program are from those of `dense`, after some tokens."""
    logits = {}
    for name, (step, carry) in found.items():
        for token in (1, 2, 3, 4):
            last, carry = step(token, carry)
        logits[name] = np.asarray(last).ravel()
    return float(max(np.abs(own - logits["dense"]).max() for own in logits.values()))


def case_line(hidden: int, vocab: int, sparsity: float, blocks: int, calls: int) -> dict[str, Any]:
    """All that is measured of a case."""
    saved = random_model(hidden, vocab, sparsity)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sizes = {
            format_name: export_model(saved, format_name, folder / format_name).bytes_on_disk
            for format_name in FORMATS
        }
        found = programs(saved, folder)
    return {
        "model": f"lstm 2 x {hidden}",
        "vocab_size": vocab,
        "sparsity": sparsity,
        "weights": sum(leaf.size for leaf in jax.tree.leaves(saved.params)),
        "bytes": sizes,
        "error": largest_error(found),
        "latency_ms": measure(found, vocab, blocks, calls),
        "load": round(load, 2),
    }


def main() -> None:
    """Measures, and prints a JSON line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden-size", type=int, nargs="+", default=[200, 650, 1500])
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.67, 0.9])
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="of a block, at most")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--smoke", action="store_true", help="small sizes, in seconds")
    flags = parser.parse_args()
    if flags.smoke:
        flags.hidden_size, flags.vocab_size, flags.blocks, flags.calls = [16], 64, 2, 3
    environment = {
        "backend": jax.default_backend(),
        "cores": visible_cores(),
        "openblas_threads": os.environ["OPENBLAS_NUM_THREADS"],
        **{name: importlib.metadata.version(name) for name in ("jax", "numpy", "scipy")},
        "date": time.strftime("%Y-%m-%d"),
    }
    for hidden in flags.hidden_size:
        for sparsity in flags.sparsity:
            line = case_line(hidden, flags.vocab_size, sparsity, flags.blocks, flags.calls)
            text = json.dumps({**line, "environment": environment})
            print(text, flush=True)
            if flags.out:
                with flags.out.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")


if __name__ == "__main__":
    main()
