"""Lyapunov spectra of a recurrent language model along the tokens it reads, layer by layer.

Without feedback from upper to lower layers the tangent map is block-triangular, so the spectrum
of the stack is the union of the layers' own spectra: L problems of the size of one layer.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax.cells import CELLS
from lsh_jax.config import ModelConfig, check
from lsh_jax.language_models import LanguageModel, layer_names
from lsh_jax.layers import run_layer
from lsh_jax.lyapunov import paper_recipe, stack
from lsh_jax.lyapunov.benettin import benettin_scan
from lsh_jax.lyapunov.checks import check_key, refuse_breakdown
from lsh_jax.lyapunov.orthonormalize import (
    lu,
    orthonormalizer,
    random_frame,
)
from lsh_jax.lyapunov.recipe import Recipe, checked_recipe, checked_tokens
from lsh_jax.lyapunov.result import LyapunovResult, interval_lengths, summarize
from lsh_jax.lyapunov.tangents import TANGENTS, rows_per_unit
from lsh_jax.types import Array, Carry, Key, Params


def rnn_lyapunov_spectrum(
    model: LanguageModel,
    params: Params,
    tokens: Array,
    *,
    state: str = "full",
    num_exponents: int | Sequence[int] | None = None,
    burn_in: int = 10,
    per_layer: bool = True,
    qr: str = "auto",
    qr_every: int | None = None,
    log_base: float = math.e,
    recipe: str | None = None,
    key: Key | None = None,
    stop_gradient: str | None = None,
    batch_chunk: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> LyapunovResult:
    """Estimates the Lyapunov spectrum of every layer of a language model driven by tokens.

    The model runs from a zero carry without dropout; a layer is driven by the one below. Every
    column of the batch and every layer of one width starts from the same random frame. Compiled
    once for each set of sizes and options: masked candidates share the program.

    Departures from the authors' code, each of which changes their numbers: products in the order
    J Q instead of reversed, a random first frame instead of the identity, burn-in on tokens that
    are read once, exponents sorted within the layer, nats. `recipe="paper"` reproduces theirs.

    Memory beside the parameters: at most 8 L B N K floats for the frames (12 on a TPU), 2 L B N^2
    for the Jacobians of one step, and the recurrent weights once more, whatever T is (by the
    compilers for H100 and TPU v5e at the paper's sizes; `benchmarks/README.md`). `batch_chunk`
    replaces B by the chunk but for the frames that are returned, L B N K; `mesh` replaces it by B
    over its devices.

    Args:
      model: its `config` is read.
      params: the parameters, already masked.
      tokens: word ids, int32 [T, B].
      state: "full" differentiates everything that a layer carries: (h, c) of an LSTM, N = 2 H, the
        state of the other cells, N = H. "hidden" holds the memory c of an LSTM on its path, as
        the paper does, N = H.
      num_exponents: K of each layer, 1 <= K <= N, one number or one for each layer; None computes
        all N.
      burn_in: first steps, left out of the mean, 0 <= burn_in < T.
      per_layer: False takes the whole stack as one system, to check that its spectrum is the
        union of the layers': N is the sum over the layers, and costs grow with its cube. The two
        agree up to O(1 / T), as neighbouring exponents of different layers mix for a while; their
        sums agree at once.
      qr: "auto" and "lu" factorize the frame by LU at every step, and make it orthonormal by QR at
        the end of each of about sqrt(T) intervals; "householder", "solve" and "cholesky" make QR at
        every step, and "auto" is "solve" for more than 3/5 of the exponents of an LSTM's full
        state, of which LU would lose the last. The exponents agree up to rounding.
      qr_every: steps of an interval; None is about sqrt(T - burn_in) with LU, else 1.
      log_base: base of the logarithm, > 1: e gives nats, 2 the bits of the authors' files.
      recipe: None, or "paper" for the authors' recipe: state "hidden", all exponents, reversed
        products (but for an RHN), frame from the identity, `burn_in` steps multiplied without QR
        on tokens that are then read again, bits, unsorted. It sets `state`, `qr`, `log_base`; use
        T = 35 and B = 2 for their numbers. Their omission of an RHN's biases is not reproduced.
      key: key of the random first frame; None is `jax.random.key(0)`.
      stop_gradient: None, or "state" to differentiate with the trajectory of every layer held
        constant (see `lyapunov_spectrum`): for chaotic networks.
      batch_chunk: columns of the batch worked on at a time, a divisor of B; None: all.
      mesh: devices with one axis to cut the batch over; B must be a multiple of their number.

    Returns:
      A LyapunovResult; `exponents` and `std_error` [L, K] (mean over the batch in QR order, then
      sorted within the layer; the error pools time and columns of the batch, see
      `summarize`), `local_exponents` [num_qr, L, K] (averaged over the batch), `order` [L, K],
      `state` the carry with leaves [L, B, H], `q` [L, B, N, K]. Where layers differ in width or in
      K all of these are tuples over the layers, without the axis L; with `per_layer=False` there
      is no axis L, and `state` is the tuple of carries [B, H].

    Raises:
      ConfigError: (a ValueError) for an argument that cannot be met; it names the argument, the
        value and the condition.
    """
    tokens = checked_tokens(tokens, burn_in, model.config.vocab_size)
    settings = checked_recipe(
        model.config, tokens.shape, state, num_exponents, burn_in, per_layer, qr, qr_every, recipe
    )
    check(1 < log_base < math.inf, "log_base", "be above 1 and finite", log_base)
    check(stop_gradient in (None, "state"), "stop_gradient", 'be None or "state"', stop_gradient)
    check_key(key)
    num_columns = tokens.shape[1]
    if mesh is not None:
        check(len(mesh.shape) == 1, "mesh", "have one axis", dict(mesh.shape))
        fits = num_columns % mesh.size == 0
        check(fits, "tokens", f"have a multiple of the mesh's {mesh.size} columns", tokens.shape)
        num_columns //= mesh.size
        # A mesh of automatic axes, whatever the reader's: the caller's arrays need no layout.
        mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
    if batch_chunk is not None:
        fits = batch_chunk >= 1 and num_columns % batch_chunk == 0
        check(fits, "batch_chunk", f"divide the {num_columns} columns of a device", batch_chunk)
    settings = settings._replace(
        log_base=2.0 if recipe else log_base,
        hold=stop_gradient == "state",
        batch_chunk=batch_chunk,
        mesh=mesh,
    )
    key = jax.random.key(0) if key is None else key
    fields = _spectrum(params, tokens, key, recipe=settings)
    if qr == "cholesky":
        jax.tree.map(refuse_breakdown, fields["exponents"])
    return LyapunovResult(
        **fields,
        num_steps=tokens.shape[0] if recipe else tokens.shape[0] - burn_in,
        qr_every=settings.qr_every,
        unit=math.log(settings.log_base),
    )


@functools.partial(jax.jit, static_argnames="recipe")
def _spectrum(params: Params, tokens: Array, key: Key, *, recipe: Recipe) -> dict[str, Any]:
    """The fields of a LyapunovResult that are arrays."""
    run = functools.partial(_stack_growth if not recipe.per_layer else _layers_growth, recipe)
    if recipe.mesh is not None:
        (axis,) = recipe.mesh.axis_names
        spec = jax.sharding.PartitionSpec
        run = jax.shard_map(
            run,
            mesh=recipe.mesh,
            in_specs=(spec(), spec(None, axis), spec()),
            out_specs=spec(axis),
            check_vma=False,
        )
    # A list over the systems of (carry, q, logs), with the batch leading: [B, ...].
    systems = run(params, tokens, key)
    num_steps = tokens.shape[0] - (0 if recipe.paper else recipe.burn_in)
    summaries = [_summary(recipe, num_steps, logs) for _, _, logs in systems]
    fields = [
        {"state": carry, "q": q} | summary._asdict()
        for (carry, q, _), summary in zip(systems, summaries, strict=True)
    ]
    return _merged(recipe, fields)


def _summary(recipe: Recipe, num_steps: int, logs: Array) -> Any:
    """Averages of log growth [B, num_qr, K] in nats."""
    lengths = interval_lengths(num_steps, recipe.qr_every, logs.shape[1]).astype(logs.dtype)
    rates = logs.swapaxes(0, 1) / lengths[:, None, None]
    rates = rates / math.log(recipe.log_base)
    return summarize(rates, num_steps, recipe.qr_every, sort=not recipe.paper)


def _merged(recipe: Recipe, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """One system as it is, equal layers along an axis L, unequal ones as tuples."""
    if not recipe.per_layer:
        return fields[0]
    if not _equal_layers(recipe):
        return {name: tuple(field[name] for field in fields) for name in fields[0]}
    merged = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fields)
    return merged | {"local_exponents": merged["local_exponents"].swapaxes(0, 1)}


def _equal_layers(recipe: Recipe) -> bool:
    return len(set(recipe.config.widths)) == 1 and len(set(recipe.num_exponents)) == 1


def _layers_growth(recipe: Recipe, params: Params, tokens: Array, key: Key) -> list[Any]:
    """Every layer on its own: (carry [B, H], q [B, N, K], logs [B, num_qr, K]) of each."""
    if recipe.paper:  # the state moves on while the text starts again
        tokens = jnp.concatenate([tokens[: recipe.burn_in], tokens])
    drives, weights = _drives(recipe.config, params, tokens, recipe.hold)
    if not _equal_layers(recipe):
        return [
            _over_batch(recipe, functools.partial(_layer_growth, recipe, layer, key, weight), drive)
            for layer, (weight, drive) in enumerate(zip(weights, drives, strict=True))
        ]
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    layer_growth = functools.partial(_layer_growth, recipe, 0, key)

    def all_layers(drives: Array) -> Any:  # of one column, [T, L, G]
        return jax.vmap(layer_growth, in_axes=(0, 1))(weights, drives)

    grown = _over_batch(recipe, all_layers, jnp.stack(drives, axis=1))
    num_layers = recipe.config.num_layers
    return [jax.tree.map(lambda leaf, i=layer: leaf[:, i], grown) for layer in range(num_layers)]


def _layer_growth(
    recipe: Recipe, layer: int, key: Key, weights: Params, drive: Array
) -> tuple[Carry, Array, Array]:
    """One layer along one column, whose drive is [T, G]."""
    cell, width = CELLS[recipe.config.cell], recipe.config.widths[layer]
    linearize = TANGENTS[recipe.config.cell][recipe.state](weights)
    carry = cell.init_carry((width,), drive.dtype)
    num_steps = drive.shape[0] - recipe.burn_in
    if recipe.paper:
        reverse = recipe.config.cell != "rhn"
        return paper_recipe.growth(linearize, carry, width, drive, recipe.burn_in, reverse)
    size = width * rows_per_unit(recipe.config.cell, recipe.state)
    q0 = random_frame(key, size, recipe.num_exponents[layer], drive.dtype)
    return _grow(recipe, linearize, carry, q0, drive, num_steps)


def _grow(
    recipe: Recipe, linearize: Any, carry: Carry, q0: Array, inputs: Array, num_steps: int
) -> tuple[Carry, Array, Array]:
    blocked = recipe.qr_every > 1
    carry, q, growth = benettin_scan(
        linearize,
        orthonormalizer("householder" if blocked else recipe.qr),
        carry,
        q0,
        inputs,
        num_steps=num_steps,
        burn_in=recipe.burn_in,
        qr_every=recipe.qr_every,
        between=lu if blocked else None,
        hold_trajectory=recipe.hold,
    )
    return carry, q, growth.logs


def _stack_growth(recipe: Recipe, params: Params, tokens: Array, key: Key) -> list[Any]:
    """The whole stack as one system; its only entry as in `_layers_growth`."""
    config = recipe.config
    linearize = stack.tangent(config, params, recipe.state)
    inputs = params["embedding"]["table"][tokens]  # [T, B, E]
    size = sum(width * rows_per_unit(config.cell, recipe.state) for width in config.widths)
    q0 = random_frame(key, size, recipe.num_exponents[0], inputs.dtype)
    cell = CELLS[config.cell]
    carry = tuple(cell.init_carry((width,), inputs.dtype) for width in config.widths)
    num_steps = tokens.shape[0] - recipe.burn_in

    def column(inputs: Array) -> Any:
        return _grow(recipe, linearize, carry, q0, inputs, num_steps)

    return [_over_batch(recipe, column, inputs)]


def _over_batch(recipe: Recipe, run: Callable[[Array], Any], drives: Array) -> Any:
    """Maps over the columns of drives [T, B, ...] or [T, L, B, G], some at a time."""
    columns = jnp.moveaxis(drives, -2, 0)
    if recipe.batch_chunk is None:
        return jax.vmap(run)(columns)
    return jax.lax.map(run, columns, batch_size=recipe.batch_chunk)


def _drives(
    config: ModelConfig, params: Params, tokens: Array, hold: bool
) -> tuple[list[Array], list[Params]]:
    """Of every layer, what its input sends into the cell, [T, B, G], and its recurrent weights.

    `hold` stops the derivative that flows through the trajectory of the layers below.
    """
    cell, inputs = CELLS[config.cell], params["embedding"]["table"][tokens]
    drives, weights = [], []
    with jax.default_matmul_precision("highest"):
        for name, width in zip(layer_names(config), config.widths, strict=True):
            drives.append(cell.project(params[name], inputs))
            weights.append(cell.recurrent(params[name]))
            carry = cell.init_carry((tokens.shape[1], width), inputs.dtype)
            inputs, _ = run_layer(cell, params[name], inputs, carry)
            inputs = jax.lax.stop_gradient(inputs) if hold else inputs
    return drives, weights
