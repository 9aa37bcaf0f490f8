"""The pieces of a step of training, and what stands between the epochs of one."""

import functools
import math
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import optax
from train_cases import Case, dropout, random_windows, segment, start
from turns import Runner, compiled, digits, in_turns, runner

from lsh_jax import (
    SparsityConfig,
    SpectrumConfig,
    dynamic_sparsity,
    make_language_model,
    rnn_lyapunov_spectrum,
    sparsity,
)
from lsh_jax.cells import CELLS
from lsh_jax.data.batching import Windows
from lsh_jax.distance import num_leading
from lsh_jax.language_models import _make_dropout, layer_names, leaf_gates
from lsh_jax.layers import run_layer
from lsh_jax.losses import weighted_nll
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.mixed_precision import make_dot
from lsh_jax.optimizers import masked_sgd
from lsh_jax.search.stacked_training import compile_stacked
from lsh_jax.training import evaluate_windows, update_topology

_TRAIN_TOKENS, _VALIDATION_TOKENS = 929_589, 73_760  # Penn Treebank, ends of sentences included
_POPULATIONS = (1, 2, 4)


def profile(case: Case, repeats: int) -> dict[str, Any]:
    """Times the pieces of a step apart; what is left of the whole step is its `rest`.

    Args:
      case: the model and its recipe.
      repeats: turns after the first run of each.

    Returns:
      A JSON object with milliseconds a window.
    """
    runners = {"step": segment(case), **_layer_pieces(case), **_other_pieces(case)}
    seconds = in_turns(runners, repeats)
    times = {name: statistics.median(own) * 1e3 for name, own in seconds.items()}
    whole = times.pop("step") / case.windows
    # What a layer does beside its products over all steps is its scan.
    forward = times.pop("layers, forward") - times["input products"]
    over_all = "gradients of the input products", "gradients of the recurrent matrices"
    backward = times.pop("layers, backward") - sum(times[name] for name in over_all)
    times |= {"scan, forward": forward, "scan, backward": backward}
    times["rest"] = whole - sum(times.values())
    return {
        "step_ms": digits(whole),
        "pieces_ms": {name: digits(time) for name, time in times.items()},
        "shares": {name: digits(time / whole) for name, time in times.items()},
    }


def _layer_pieces(case: Case) -> dict[str, Runner]:
    """The recurrent layers, and those of their products that wait for no step."""
    config, precision = case.model, case.recipe.precision
    T, B = case.recipe.bptt, case.recipe.batch_size
    cell, dot = CELLS[config.cell], make_dot(precision)
    params = [start(case).params[name] for name in layer_names(config)]
    below = (config.embed_size, *config.widths)
    inputs = [_normal(T, B, width) for width in below[: config.num_layers]]
    carries = [cell.init_carry((B, width)) for width in config.widths]
    highway = dropout(case.recipe) and config.cell == "rhn"
    kept = [jnp.ones((B, width)) if highway else None for width in config.widths]

    def project(params: Any, inputs: Any) -> Any:
        return [cell.project(layer, x, dot) for layer, x in zip(params, inputs, strict=True)]

    def project_back(params: Any, inputs: Any, d_drives: Any) -> Any:
        return jax.vjp(project, params, inputs)[1](d_drives)

    def layers(params: Any, inputs: Any) -> Any:
        each = zip(params, inputs, carries, kept, strict=True)
        return [
            run_layer(cell, layer, x, carry, kept=mask, precision=precision, reverse_only=True)[0]
            for layer, x, carry, mask in each
        ]

    def matrices(states: Any, d_products: Any) -> Any:
        pairs = zip(states, d_products, strict=True)
        return [jnp.einsum("dnh,dng->dhg", *pair) for pair in pairs]

    drives = jax.jit(project)(params, inputs)
    # By a plain call: it hands on the weights among the residuals without a copy.
    forward = jax.jit(functools.partial(jax.vjp, layers))
    outputs, pull = forward(params, inputs)
    states = [_normal(config.depth, T * B, width) for width in config.widths]
    products = [jnp.stack([drive.reshape(T * B, -1)] * config.depth) for drive in drives]
    return {
        "input products": runner(project, params, inputs),
        "layers, forward": Runner(0.0, lambda: jax.block_until_ready(forward(params, inputs))),
        "layers, backward": runner(lambda pull, d_outputs: pull(d_outputs), pull, outputs),
        "gradients of the input products": runner(project_back, params, inputs, drives),
        "gradients of the recurrent matrices": runner(matrices, states, products),
    }


def _other_pieces(case: Case) -> dict[str, Runner]:
    """Masks of dropout, embedding, decoder with the loss, and the optimizer."""
    config, recipe = case.model, case.recipe
    shape = recipe.bptt, recipe.batch_size
    state, hyper = start(case), jax.tree.map(jnp.float32, recipe.hyper())
    window = Windows(*(array[0] for array in random_windows(case)))
    table, dot = state.params["embedding"]["table"], make_dot(recipe.precision)
    matrix = table.T if config.tied else state.params["decoder"]["W"]

    def masks(key: Any) -> Any:
        return _make_dropout(config, key, hyper, shape, locked=recipe.locked_dropout)

    def embed(table: Any, tokens: Any, cotangent: Any) -> Any:
        embedded, pull = jax.vjp(lambda table: table[tokens], table)
        return embedded, pull(cotangent)

    def decode(h: Any, W: Any, b: Any, window: Any) -> Any:
        def loss(h: Any, W: Any, b: Any) -> Any:
            logits = dot(h, W) + b[None, None, :]
            return weighted_nll(logits, window.targets, window.weights)

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(h, W, b)

    def optimize(params: Any, grads: Any, masks: Any, hyper: Any) -> Any:
        sgd = masked_sgd(hyper.learning_rate, clip=hyper.clip, weight_decay=hyper.weight_decay)
        updates, _ = sgd.update(grads, sgd.init(params), params, masks=masks)
        return optax.apply_updates(params, updates)

    last = config.widths[-1]
    return {
        "masks of dropout": runner(masks, jax.random.key(0)),
        "embedding and its gradient": runner(
            embed, table, window.inputs, _normal(*shape, config.embed_size)
        ),
        "decoder and loss, with gradients": runner(
            decode, _normal(*shape, last), matrix, state.params["decoder"]["b"], window
        ),
        "optimizer": runner(optimize, state.params, state.params, state.sparsity.masks, hyper),
    }


def _normal(*shape: int) -> Any:
    return jax.random.normal(jax.random.key(3), shape)


def epoch(case: Case, repeats: int) -> dict[str, Any]:
    """What is added to an epoch of Penn Treebank, and what candidates gain side by side.

    Args:
      case: the model and its recipe.
      repeats: turns after the first run of each.

    Returns:
      A JSON object: seconds of an epoch and of what may come on top, each as a share of it too.
    """
    train, recipe = segment(case), case.recipe
    windows = math.ceil((_TRAIN_TOKENS // recipe.batch_size - 1) / recipe.bptt)
    length = math.ceil(_VALIDATION_TOKENS / recipe.eval_batch_size) - 1
    evaluations = math.ceil(length / recipe.bptt)
    runners = {
        "training": train,
        "without masks": segment(case, "unmasked"),
        "with averages": segment(case, "averaging"),
        "evaluation": _evaluation(case),
        "spectrum": _spectrum(case),
        "topology update": _update(case),
    }
    times = dict.fromkeys(runners, windows / case.windows)
    times |= {"evaluation": evaluations / case.windows, "spectrum": 1, "topology update": 1}
    measured = in_turns(runners, repeats)
    seconds = {name: statistics.median(measured[name]) * count for name, count in times.items()}
    whole = seconds["training"]
    added = {
        "masks": whole - seconds["without masks"],
        "averages": seconds["with averages"] - whole,
        **{name: seconds[name] for name in ("evaluation", "spectrum", "topology update")},
    }
    return {
        "windows": windows,
        "evaluation_windows": evaluations,
        "epoch_s": digits(whole),
        "added_s": {name: digits(value) for name, value in added.items()},
        "shares": {name: digits(value / whole) for name, value in added.items()},
        "population": _populations(case, train, repeats),
    }


def _evaluation(case: Case) -> Runner:
    """As many windows of evaluation as a segment trains on."""
    model, columns = make_language_model(case.model), case.recipe.eval_batch_size
    windows = random_windows(case)
    repeated = -(-columns // case.recipe.batch_size)
    wide = Windows(*(jnp.tile(array, (1, 1, repeated))[..., :columns] for array in windows))
    return runner(functools.partial(evaluate_windows, model), start(case).params, wide)


def _spectrum(case: Case) -> Runner:
    """The default recipe of a search."""
    config, recipe = case.model, SpectrumConfig()
    model = make_language_model(config)
    size = config.widths[0] * rows_per_unit(config.cell, recipe.state)
    shape = (recipe.burn_in + recipe.length, recipe.batch)
    tokens = jax.random.randint(jax.random.key(4), shape, 0, config.vocab_size)
    count = num_leading(recipe.share, size)

    def spectrum(params: Any, tokens: Any) -> Any:
        result = rnn_lyapunov_spectrum(
            model,
            params,
            tokens,
            state=recipe.state,
            num_exponents=count,
            burn_in=recipe.burn_in,
        )
        return result.exponents, result.std_error

    return runner(spectrum, start(case).params, tokens)


def _update(case: Case) -> Runner:
    """An update of the topology with the gradient of a window."""
    updater = dynamic_sparsity(gates=leaf_gates(case.model), track_signs=True)
    move = functools.partial(update_topology, make_language_model(case.model), updater, case.recipe)
    window = Windows(*(array[0] for array in random_windows(case)))
    return runner(move, start(case), sparsity.controls(SparsityConfig()), window)


def _populations(case: Case, alone: Runner, repeats: int) -> dict[str, Any]:
    """Times of a window and candidate, over that of the program of one network."""
    runners = {"alone": alone, **{str(size): _side_by_side(case, size) for size in _POPULATIONS}}
    seconds = in_turns(runners, repeats)
    one = statistics.median(seconds["alone"])
    return {
        str(size): {
            "compile_s": round(runners[str(size)].compile_s, 2),
            "time_over_alone": digits(statistics.median(seconds[str(size)]) / size / one),
        }
        for size in _POPULATIONS
    }


def _side_by_side(case: Case, size: int) -> Runner:
    updater = dynamic_sparsity(gates=leaf_gates(case.model), track_signs=True)
    model = make_language_model(case.model)
    programs = compile_stacked(model, updater, case.recipe, jax.devices()[:1])
    state = programs.stack([start(case)] * size)
    hyper = jax.tree.map(lambda value: jnp.full(size, value), case.recipe.hyper())
    key, windows = jax.random.key(1), random_windows(case)
    spent, program = compiled(
        lambda *arguments: programs.train(*arguments, False),
        state,
        hyper,
        windows,
        key,
        donate=True,
    )

    def run() -> Any:
        nonlocal state
        state, sums = program(state, hyper, windows, key)
        return jax.block_until_ready((state, sums))[1]

    return Runner(spent, run)
