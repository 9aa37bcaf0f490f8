"""What does a topology update cost, against sorting and against the epoch that it interrupts?

    python benchmarks/sparsity_update.py --out=sparsity.jsonl
    python benchmarks/sparsity_update.py --hidden-size=200 --vocab-size=2000
    python benchmarks/sparsity_update.py --smoke

Three JSON lines, of a stacked LSTM language model (the paper's by default: 2 x 1500, 66.0 M
prunable weights). `selection`: the k largest of the largest matrix, by the library's bisection
(k traced), by `argsort`, and by `lax.top_k` (k static: every count is a program of its own).
`update`: one magnitude death and random growth of the whole model by each of the three, with the
temporary memory that XLA's own analysis gives, and the library's other rules. `epoch`: windows of
the library's training, measured in the same process, times the windows of an epoch of Penn
Treebank, and the updates' share of it. Method and results: benchmarks/README.md.
"""

import argparse
import functools
import importlib.metadata
import json
import math
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lsh_jax import ModelConfig, SparsityConfig, dynamic_sparsity, make_language_model, sparsity
from lsh_jax.config import TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import leaf_gates
from lsh_jax.machine import visible_cores
from lsh_jax.sparsity.selection import magnitude_keys, top_k_mask
from lsh_jax.training import init_train_state, train_segment

_DENSITY, _RATE = 0.33, 0.5
_WINDOWS_PER_EPOCH = 1328  # Penn Treebank: 929,589 tokens in 20 columns, windows of 35
_RULES = (("set", "random"), ("global_magnitude", "random"), ("taylor", "gradient"))

Select = Callable[[jax.Array, jax.Array, Any], jax.Array]  # (keys, candidates, k) -> mask


def by_argsort(keys: jax.Array, candidates: jax.Array, k: Any) -> jax.Array:
    """Ranks by a stable sort; k may be traced."""
    order = jnp.argsort(jnp.where(candidates, ~keys, jnp.uint32(0xFFFFFFFF)).ravel(), stable=True)
    rank = jnp.zeros(keys.size, jnp.int32).at[order].set(jnp.arange(keys.size, dtype=jnp.int32))
    return (rank < k).reshape(keys.shape) & candidates


def by_top_k(keys: jax.Array, candidates: jax.Array, k: int) -> jax.Array:
    """`lax.top_k`, which wants a number for k, and a scatter."""
    chosen = jax.lax.top_k(jnp.where(candidates, keys, 0).ravel(), k)[1]
    return jnp.zeros(keys.size, bool).at[chosen].set(True).reshape(keys.shape)


SELECTIONS: dict[str, Select] = {
    "bisection": top_k_mask,
    "argsort": by_argsort,
    "top_k": by_top_k,
}


def simple_update(
    select: Select, key: jax.Array, params: Any, masks: Any, counts: dict[str, tuple[int, int]]
) -> tuple[Any, Any]:
    """Magnitude death and random growth, leaf by leaf, as one would write it with a sort."""
    new_params, new_masks = {}, {}
    for index, (name, weights) in enumerate(sorted(params.items())):
        num_kept, num_grown = counts[name]
        kept = select(magnitude_keys(weights), masks[name], num_kept)
        draws = jax.random.bits(jax.random.fold_in(key, index), weights.shape, jnp.uint32)
        new_masks[name] = kept | select(draws >> 1, ~kept, num_grown)
        new_params[name] = jnp.where(new_masks[name] & masks[name], weights, 0)
    return new_params, new_masks


def measure(run: Callable[..., Any], *arguments: Any, repeats: int) -> dict[str, float]:
    """Compiles, then times; seconds, and temporary memory in megabytes."""
    started = time.perf_counter()
    compiled = jax.jit(run).lower(*arguments).compile()
    compile_s = time.perf_counter() - started
    memory = compiled.memory_analysis()
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - started)
    return {
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "max_s": round(max(seconds), 4),
        "compile_s": round(compile_s, 2),
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
    }


def selection_line(shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """The k largest of one matrix."""
    keys = magnitude_keys(jax.random.normal(jax.random.key(0), shape))
    everyone = jnp.ones(shape, bool)
    k = round(_DENSITY * _RATE * keys.size)
    found: dict[str, Any] = {"entries": keys.size, "k": k}
    masks = []
    for name, select in SELECTIONS.items():
        chosen = functools.partial(select, k=k) if name == "top_k" else select
        arguments = (keys, everyone) if name == "top_k" else (keys, everyone, jnp.int32(k))
        found[name] = measure(chosen, *arguments, repeats=repeats)
        masks.append(jax.jit(chosen)(*arguments))
    found["same_mask"] = all(bool(jnp.array_equal(masks[0], mask)) for mask in masks[1:])
    return found


def update_line(model: Any, params: Any, repeats: int) -> dict[str, Any]:
    """One update of the whole model."""
    updater = dynamic_sparsity(gates=leaf_gates(model.config), track_signs=True)
    key = jax.random.key(1)

    def controls(death: str, growth: str) -> Any:
        config = SparsityConfig(1 - _DENSITY, death=death, growth=growth, death_rate=_RATE)
        return sparsity.controls(config)

    state = updater.init(key, params, controls("magnitude", "random"))
    params = sparsity.apply_masks(params, state.masks)
    found: dict[str, Any] = {"weights": sum(x.size for x in jax.tree.leaves(params) if x.ndim > 1)}

    def library(key: Any, state: Any, params: Any, controls: Any, gradients: Any = None) -> Any:
        return updater.update(key, state, params, controls, gradients=gradients)

    arguments = (key, state, params)
    found["library"] = measure(
        library, *arguments, controls("magnitude", "random"), repeats=repeats
    )
    for death, growth in _RULES:
        needed = (params,) if growth == "gradient" else ()
        found[f"library_{death}_{growth}"] = measure(
            library, *arguments, controls(death, growth), *needed, repeats=repeats
        )
    matrices = {str(i): x for i, x in enumerate(jax.tree.leaves(params)) if x.ndim > 1}
    masks = {str(i): x for i, x in enumerate(jax.tree.leaves(state.masks)) if x.ndim > 1}
    counts = {}
    for name, mask in masks.items():
        num_live = int(mask.sum())
        num_removed = math.ceil(_RATE * num_live)
        counts[name] = (num_live - num_removed, num_removed)
    for name in ("argsort", "top_k"):
        run = functools.partial(simple_update, SELECTIONS[name], counts=counts)
        found[name] = measure(run, key, matrices, masks, repeats=repeats)
    return found


def epoch_line(model: Any, recipe: TrainConfig, num_windows: int, repeats: int) -> dict[str, Any]:
    """Windows of training, scaled up to an epoch."""
    updater = dynamic_sparsity(gates=leaf_gates(model.config))
    controls = sparsity.controls(SparsityConfig(1 - _DENSITY))
    key = jax.random.key(2)
    state = init_train_state(model, updater, recipe, key, key, controls)
    shape = (num_windows, recipe.bptt, recipe.batch_size)
    tokens = jax.random.randint(key, shape, 0, model.config.vocab_size)
    windows = Windows(tokens, tokens, jnp.ones(shape, jnp.float32))
    hyper = jax.tree.map(jnp.float32, recipe.hyper())
    run = functools.partial(train_segment, model, recipe)
    found = measure(run, state, hyper, windows, key, repeats=repeats)
    matrices = [x.size for x in jax.tree.leaves(state.params) if x.ndim > 1]
    multiplied = sum(matrices) - model.config.vocab_size * model.config.embed_size
    flop = 6 * multiplied * recipe.bptt * recipe.batch_size  # forward, and twice that backward
    per_window = found["median_s"] / num_windows
    return {
        "windows": num_windows,
        **found,
        "gflop_per_s": round(flop / per_window / 1e9, 1),
        "epoch_s": round(per_window * _WINDOWS_PER_EPOCH, 1),
    }


def main() -> None:
    """Measures, and prints a JSON line for each question."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden-size", type=int, default=1500)
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--smoke", action="store_true", help="small sizes, in seconds")
    flags = parser.parse_args()
    hidden, vocab = (16, 64) if flags.smoke else (flags.hidden_size, flags.vocab_size)
    model = make_language_model(ModelConfig("lstm", vocab, hidden, hidden, 2))
    recipe = TrainConfig(learning_rate=40.0, dropout_input=0.65, dropout_hidden=0.65)
    environment = {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "cores": visible_cores(),
        "jax": importlib.metadata.version("jax"),
        "date": time.strftime("%Y-%m-%d"),
        "hidden_size": hidden,
        "vocab_size": vocab,
    }

    def report(name: str, line: dict[str, Any]) -> None:
        text = json.dumps({"question": name, **line, "environment": environment})
        print(text, flush=True)
        if flags.out:
            with flags.out.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    epoch = epoch_line(model, recipe, flags.windows, flags.repeats)
    update = update_line(model, model.init(jax.random.key(0)), flags.repeats)
    share = update["library"]["median_s"] / epoch["epoch_s"]
    report("epoch", {**epoch, "share_of_one_update": round(share, 5)})
    report("update", update)
    report("selection", selection_line((vocab, hidden), flags.repeats))


if __name__ == "__main__":
    main()
