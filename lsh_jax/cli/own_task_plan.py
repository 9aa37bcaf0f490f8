"""What the search of a task of one's own will cost, before it starts."""

import time
from collections.abc import Callable
from typing import Any

import jax

from lsh_jax.estimate import describe_rounds, num_states, total_epochs
from lsh_jax.pace import duration
from lsh_jax.phases import describe_phases, epochs_in_turn, phases
from lsh_jax.presets import Settings
from lsh_jax.search.task import Task
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls

_BLOCK_BYTES = 4096  # that a file takes at least, on usual file systems


def describe_plan(settings: Settings, task: Task, workers: int) -> str:
    """The rounds of a search, and its disk and time by what a segment takes here, as text.

    Args:
      settings: of the search; of its `train` the patience alone.
      task: any; its programs are compiled, and run once more to be timed.
      workers: candidates that train at a time.
    """
    dense = controls(DENSE)
    state = task.init(jax.random.key(0), dense, task.hyper)
    started = 0.0
    for _ in range(2):  # the first compiles; each takes the state of the last, as it may donate it
        started = time.perf_counter()
        state, _ = jax.block_until_ready(task.train(state, dense, task.hyper, 1))
    epoch = task.segments_per_epoch * (time.perf_counter() - started)
    exponents, _ = task.spectrum(state)
    epoch += _seconds(lambda: task.evaluate(state, "validation"))
    epoch += _seconds(lambda: task.spectrum(state))
    steps = phases(settings)
    in_turn = epochs_in_turn(steps, workers, settings.ask_batch)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
    states = num_states(settings.search(), keep_all=False)
    # Exponents and their errors after every epoch, in a file each.
    spectra = 2 * total_epochs(settings) * (_BLOCK_BYTES + exponents.nbytes)
    most = "at most about" if task.patience else "about"
    side = f", {workers} candidates at a time where there are as many" if workers > 1 else ""
    table = f"{describe_phases(steps)}\n"
    return (
        f"{describe_rounds(settings, table)}\n"
        f"Disk: about {(states * state_bytes + spectra) / 2**20:,.1f} MiB of checkpoints and "
        "spectra\n"
        f"Time: {most} {duration(in_turn * epoch)}, {epoch:.2g} s an epoch with evaluation and "
        f"spectrum, measured on one segment here{side}; compiling comes on top"
    )


def _seconds(function: Callable[[], Any]) -> float:
    """Of a second run, after one that compiles."""
    jax.block_until_ready(function())
    started = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - started
