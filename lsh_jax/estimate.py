"""What a search will cost, before it starts: epochs, FLOPs, memory, disk and time."""

from typing import Any, NamedTuple

import jax

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig
from lsh_jax.data import Corpus
from lsh_jax.distance import num_leading
from lsh_jax.flops import SearchFlops, search_flops
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.measurement import measure, measure_epoch, program_bytes, short_task
from lsh_jax.pace import duration
from lsh_jax.phases import describe_phases, epochs_in_turn, phases
from lsh_jax.presets import Settings, TrainingSettings
from lsh_jax.search.population import Fit, check_population, fit_population
from lsh_jax.search.space import in_play, make_space, size
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.task import Task, TaskState
from lsh_jax.search.trial import DENSE
from lsh_jax.search.tuning import epochs_tuning, is_tuned, tuning_config
from lsh_jax.sizes import describe_layers, model_sizes
from lsh_jax.sparsity import controls
from lsh_jax.types import Key

__all__ = [
    "Estimate",
    "Resources",
    "describe_model",
    "describe_plan",
    "describe_population",
    "describe_rounds",
    "describe_unused_rows",
    "epochs_dense",
    "estimate",
    "measure_epoch",
    "num_prunable",
    "num_states",
    "spectra_bytes",
    "total_epochs",
]

_MANY_ROWS = 1.25  # times the types of a text
_HEADER_BYTES = 128  # of a .npy file
_ZIP_BYTES = 256  # of a file in an archive, at most: two headers with its name
_BLOCK_BYTES = 4096  # that a file takes at least, on usual file systems


class Resources(NamedTuple):
    """What a search asks of the machine besides time and disk."""

    flops: SearchFlops
    flops_per_second: float  # of the training that was measured
    program_bytes: int  # on the device, to train one network
    state_bytes: int  # of them of its state: weights, masks, averages


class Estimate(NamedTuple):
    """The cost of a search."""

    epochs: int  # of the candidates
    epochs_dense: int
    epochs_tuning: int  # of the trials that the dense network was chosen from
    fit: Fit | None  # of candidates side by side; None where that is not asked for
    seconds_per_epoch: float  # with evaluation and spectrum, without compiling
    bytes_on_disk: int  # at its largest, of checkpoints and spectra
    workers: int = 1
    epochs_in_turn: int | None = None  # that must follow one another; None for all
    resources: Resources | None = None  # None where they are not known

    @property
    def seconds(self) -> float:
        """Of the whole search, without compiling."""
        whole = self.epochs + self.epochs_dense + self.epochs_tuning
        in_turn = whole if self.epochs_in_turn is None else self.epochs_in_turn
        return in_turn * self.seconds_per_epoch


def estimate(settings: Settings, corpus: Corpus, workers: int = 1) -> Estimate:
    """Counts, measures a few windows of the training that `settings` asks for, and multiplies.

    Topology updates and compiling are left out of the time: the first are a small share, the second
    is paid once by every worker.

    Args:
      settings: the search.
      corpus: its data.
      workers: candidates that train at a time, in processes of their own.

    Returns:
      The estimate; it costs the compilation of four programs, of six with candidates side by side.
    """
    config = settings.search()
    task = short_task(settings, corpus)
    measured = measure(settings, corpus, task)
    fit = None
    if settings.population != 1:
        check_population(settings.population)
        fit = fit_population(task, config)
    epochs, dense = num_epochs(config, plan(config)), epochs_dense(settings)
    tuning = epochs_tuning(config)
    states = num_states(config, keep_all=settings.keep_checkpoints) * measured.state_bytes
    return Estimate(
        epochs=epochs,
        epochs_dense=dense,
        epochs_tuning=tuning,
        fit=fit,
        seconds_per_epoch=measured.seconds,
        bytes_on_disk=states + spectra_bytes(settings),
        workers=workers,
        epochs_in_turn=epochs_in_turn(phases(settings), workers, config.ask_batch),
        resources=Resources(
            flops=search_flops(settings, corpus, epochs, dense + tuning),
            flops_per_second=measured.flops_per_second,
            program_bytes=program_bytes(settings, corpus, task),
            state_bytes=measured.state_bytes,
        ),
    )


def spectra_bytes(settings: Settings) -> int:
    """Bytes of the files of spectra at the end of a search, at most.

    Exponents and standard errors of every epoch, [L, K] float32 in a file each, and all of them
    once more in archives; where weights are averaged, also of the weights themselves. The dense
    networks' stand where they were trained, and again in the run.
    """
    model, recipe = settings.model, settings.spectrum
    rows = rows_per_unit(model.cell, recipe.state)
    numbers = sum(num_leading(recipe.share, width * rows) for width in model.widths)
    own = 4 * numbers + _HEADER_BYTES
    files = 2 if settings.train.averaging == "none" else 4
    in_blocks = -(-own // _BLOCK_BYTES) * _BLOCK_BYTES
    epochs, dense = total_epochs(settings), epochs_dense(settings)
    return files * (in_blocks * (epochs + dense) + (own + _ZIP_BYTES) * epochs)


def num_states(config: SearchConfig, *, keep_all: bool) -> int:
    """Checkpoints of a search that are on disk at one time, at most.

    Args:
      config: the search.
      keep_all: whether those of losers, and of all epochs, are kept.
    """
    tuning, rounds = tuning_config(config), plan(config)
    tuned = is_tuned(config)
    # Latest and best of each seed, and the copy of the first in the run; one that was tuned has
    # its best alone, among the trials of the tuning.
    dense = 2 * config.dense_seeds + (0 if tuned else 1)
    if keep_all:
        before = num_epochs(tuning, plan(tuning)) if tuned else 0
        return before + dense + num_epochs(config, rounds)
    # Each network in a round keeps its latest and its best state, and the old one for a moment.
    before = 2 * plan(tuning)[0].num_entering if tuned else 0
    return max(before, dense + 2 * rounds[0].num_entering) + 1


def num_prunable(settings: Settings) -> int:
    """Weights of the dense network that pruning may take.

    Raises:
      ConfigError: when the sparsity would leave none of them.
    """
    total = model_sizes(settings.model).weights
    if round((1 - settings.sparsity) * total) < 1:
        raise ConfigError(
            f"`sparsity` must leave a live weight, got {settings.sparsity:g} of {total} weights: "
            f"take at most {1 - 1 / total:.6f}."
        )
    return total


def epochs_dense(settings: Settings) -> int:
    """Epochs of the dense networks; none where one is given."""
    return 0 if settings.dense else settings.dense_seeds * settings.final_epochs


def describe_model(settings: Settings) -> str:
    """The network and what pruning leaves of it, as text."""
    total = num_prunable(settings)
    live = round((1 - settings.sparsity) * total)
    about = "about " if "bernoulli" in settings.space.init_sampling else ""  # its count is drawn
    return (
        f"Model: {describe_layers(settings.model)}, {total:,} prunable "
        f"weights, {about}{live:,} of them live in a candidate (sparsity {settings.sparsity:g})"
    )


def describe_rounds(settings: Settings, table: str = "") -> str:
    """The space of a search, its rounds and its epochs, as text.

    Args:
      settings: the search.
      table: of the rounds, put below their line.
    """
    config = settings.search()
    rounds = plan(config)
    steps = [f"{entering} to epoch {epochs}" for entering, epochs in rounds]
    finalists = f"{rounds[-1].num_entering} to epoch {config.final_epochs}"
    own, dense = num_epochs(config, rounds), epochs_dense(settings)
    full = rounds[0].num_entering * config.final_epochs
    tuning = epochs_tuning(config)
    first = ""
    if tuning:
        trials = plan(tuning_config(config))[0].num_entering
        first = (
            f"Tuning: the dense network's hyperparameters over {trials} trials, before the rest: "
            f"its own run and {tuning} epochs of the others\n"
        )
    ratio = (own + dense + tuning) / full
    at_most = "at most " if settings.train.patience else ""
    return (
        f"{_describe_space(config)}\n"
        f"{first}Rounds: {', '.join(dict.fromkeys([*steps, finalists]))}\n"
        f"{table}"
        f"Epochs: {at_most}{own} of candidates and {dense} of the dense network; training every "
        f"candidate to the end takes {full} (ratio {own / full:.2f}, with the dense network "
        f"{'and its tuning ' if tuning else ''}{ratio:.2f}){_WASTE if ratio >= 1 else ''}"
    )


_WASTE = (
    "\nNote: this search costs no less than training every candidate to the end. Raise "
    "--final-epochs or --max-evals, lower --e0, --ei or --finalists, or give the dense network "
    "(--dense)."
)


def _describe_space(config: SearchConfig) -> str:
    """What is searched, and what is fixed otherwise than by default."""
    space, usual = make_space(config), SpaceConfig()
    names = in_play(space)
    lines = [f"Space: {size(space):,} distinct configurations"]
    lines += [
        f"  {name.replace('_', ' ')}: {_listed(space.choices[name])}"
        for name in names
        if len(space.choices[name]) > 1
    ]
    fixed = [
        f"{name.replace('_', ' ')} {_listed(space.choices[name])}"
        for name in names
        if len(space.choices[name]) == 1 and space.choices[name] != getattr(usual, name)
    ]
    return "\n".join([*lines, f"  fixed: {'; '.join(fixed)}"] if fixed else lines)


def _listed(choices: tuple[Any, ...]) -> str:
    return ", ".join(f"{c:g}" if isinstance(c, float) else str(c) for c in choices)


def describe_unused_rows(settings: TrainingSettings, types: int) -> str:
    """A word on rows of the embedding that no word of the text has; empty where they are few.

    Args:
      settings: the search.
      types: of the text.
    """
    rows = settings.model.vocab_size
    if rows <= _MANY_ROWS * types:
        return ""
    return (
        f"Note: the text has {types:,} types and --model.vocab-size={rows}: rows of words that "
        f"never occur are pruned and counted too. Take --model.vocab-size={types}."
    )


def total_epochs(settings: Settings) -> int:
    """Epochs of all networks of a search, tuning included."""
    config = settings.search()
    return num_epochs(config, plan(config)) + epochs_dense(settings) + epochs_tuning(config)


def describe_plan(settings: Settings, cost: Estimate) -> str:
    """The plan of a search and its cost, as text."""
    about = "at most about" if settings.train.patience else "about"
    table = f"{describe_phases(phases(settings))}\n"
    return (
        f"{describe_rounds(settings, table)}\n"
        f"{describe_population(settings, cost.fit)}"
        f"{_describe_resources(settings, cost)}"
        f"Disk: at most {_bytes(cost.bytes_on_disk)} of checkpoints and spectra\n"
        f"Time: {about} {duration(cost.seconds)}, {duration(cost.seconds_per_epoch)} an epoch with "
        "evaluation and spectrum, measured on a few windows here"
        f"{', one candidate at a time' if cost.fit and cost.workers == 1 else ''}"
        f"{_describe_workers(cost)}; compiling comes on top"
    )


def describe_disk(settings: Settings, task: Task, free: int) -> str:
    """What a search will have on disk at its largest, as text, with a warning if it has no room.

    Args:
      settings: the search.
      task: whose state is checkpointed.
      free: bytes of the disk.
    """

    def init(key: Key) -> TaskState:
        return task.init(key, controls(DENSE), task.hyper)

    state = jax.eval_shape(init, jax.random.key(0))
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    states = num_states(settings.search(), keep_all=settings.keep_checkpoints)
    largest = states * each + spectra_bytes(settings)
    text = f"Disk: at most {_bytes(largest)} of checkpoints and spectra"
    if largest > free:
        text += f"\nNote: {_bytes(free)} are free there. Take another --out, or fewer --max-evals."
    return text


def _describe_workers(cost: Estimate) -> str:
    if cost.workers == 1 or cost.epochs_in_turn is None:
        return ""
    return (
        f", {cost.workers} candidates at a time where there are as many: {cost.epochs_in_turn:,} "
        "epochs in turn, if they do not slow each other down"
    )


def _describe_resources(settings: Settings, cost: Estimate) -> str:
    """FLOPs, speed and memory, in lines with their ends; none where they are not known."""
    if cost.resources is None:
        return ""
    flops, speed, program, state = cost.resources
    at_most = "at most " if settings.train.patience or settings.train.averaging != "none" else ""
    each = f", for each of {cost.workers} workers" if cost.workers > 1 else ""
    return (
        f"Compute: {at_most}{operations(flops.executed)} by dense products, as they are made here: "
        f"{operations(flops.training)} of training, {operations(flops.evaluation)} of evaluation, "
        f"{operations(flops.spectra)} of spectra; with sparse products {operations(flops.needed)}\n"
        f"Speed: {operations(speed)}/s in the windows of training that were measured\n"
        f"Memory: about {_bytes(program)} of a device for the program that trains one network, "
        f"{_bytes(state)} of it for its state{each}\n"
    )


def operations(count: float) -> str:
    """A number of floating-point operations, to three digits: "1.23 TFLOP"."""
    scale, unit = next(
        (pair for pair in ((1e15, "PFLOP"), (1e12, "TFLOP")) if count >= 0.9995 * pair[0]),
        (1e9, "GFLOP"),
    )
    digits = f"{count / scale:#.3g}".rstrip(".")
    return f"{float(digits):,.0f} {unit}" if "e+" in digits else f"{digits} {unit}"


def describe_population(settings: Settings, fit: Fit | None) -> str:
    """How many candidates train side by side, what they take and what limits them, as text.

    Args:
      settings: the search.
      fit: from `fit_population`; None where candidates train one by one.

    Returns:
      Lines with their ends; none without a fit.
    """
    if fit is None:
        return ""
    size = fit.size if settings.population == "auto" else settings.population
    chosen = " (auto)" if settings.population == "auto" else ""
    text = (
        f"Side by side: {size}{chosen} candidates, about {_bytes(fit.bytes_each)} of memory each; "
        f"{fit.fitting} fit if they take {_bytes(fit.bytes_limit)} of a device\n"
    )
    if settings.population != "auto" and size > fit.fitting:
        text += f"Note: {size} candidates will hardly fit: take --population=auto.\n"
    pool = plan(settings.search())[0].num_entering
    if settings.ask_batch < min(fit.fitting if chosen else size, pool):
        text += (
            f"Note: the pool of {pool} asks for --ask-batch={settings.ask_batch} candidates at a "
            "time, so that no more of it train side by side.\n"
        )
    return text


def _bytes(count: int) -> str:
    mebibytes = count / 2**20
    return f"{mebibytes:,.1f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:,.1f} GiB"
