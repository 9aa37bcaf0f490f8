"""What a search will cost, before it starts: epochs, disk, and time from a few windows."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lsh_jax.config import ConfigError, SearchConfig, SpaceConfig, SpectrumConfig
from lsh_jax.data import Corpus
from lsh_jax.presets import Settings, TrainingSettings
from lsh_jax.progress import duration
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.population import Fit, check_population, fit_population
from lsh_jax.search.space import in_play, make_space, size
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.task import Task
from lsh_jax.search.trial import DENSE
from lsh_jax.search.tuning import epochs_tuning, is_tuned, tuning_config
from lsh_jax.sizes import describe_layers, model_sizes
from lsh_jax.sparsity import controls

_WINDOWS = 2  # trained and evaluated for the measurement
_MANY_ROWS = 1.25  # times the types of a text
_STEPS = 16  # of the spectrum that is measured: the fewest at which LU takes the place of QR


class Estimate(NamedTuple):
    """The cost of a search."""

    epochs: int  # of the candidates
    epochs_dense: int
    epochs_tuning: int  # of the trials that the dense network was chosen from
    fit: Fit | None  # of candidates side by side; None where that is not asked for
    seconds_per_epoch: float  # with evaluation and spectrum, without compiling
    bytes_on_disk: int  # at its largest

    @property
    def seconds(self) -> float:
        """Of the whole search, without compiling."""
        return (self.epochs + self.epochs_dense + self.epochs_tuning) * self.seconds_per_epoch


def estimate(settings: Settings, corpus: Corpus) -> Estimate:
    """Measures a few windows of the training that `settings` asks for, and multiplies.

    Topology updates and compiling are left out: the first are a small share, the second is paid
    once.

    Args:
      settings: the search.
      corpus: its data.

    Returns:
      The estimate; it costs the compilation of three programs, of five with candidates side by
      side.
    """
    config = settings.search()
    rounds = plan(config)
    seconds, state_bytes = measure_epoch(settings, corpus)
    fit = None
    if settings.population != 1:
        check_population(settings.population)
        fit = fit_population(_short_task(settings, corpus), config)
    return Estimate(
        epochs=num_epochs(config, rounds),
        epochs_dense=epochs_dense(settings),
        epochs_tuning=epochs_tuning(config),
        fit=fit,
        seconds_per_epoch=seconds,
        bytes_on_disk=num_states(config, keep_all=settings.keep_checkpoints) * state_bytes,
    )


def measure_epoch(settings: TrainingSettings, corpus: Corpus) -> tuple[float, int]:
    """Seconds of an epoch with evaluation and spectra, and bytes of the state of training.

    An epoch that averages weights has two spectra.

    Args:
      settings: the training.
      corpus: its data.

    Returns:
      Both; it costs the compilation of three programs.
    """
    train = settings.train
    task = _short_task(settings, corpus)
    state = task.init(jax.random.key(0), controls(DENSE), task.hyper)
    windows = _num_tokens(corpus.train, train.max_train_tokens) / (train.batch_size * train.bptt)
    evaluations = _num_tokens(corpus.validation, train.max_eval_tokens) / (
        train.eval_batch_size * train.bptt
    )
    steps = (settings.spectrum.length + settings.spectrum.burn_in) * settings.spectrum.batch
    steps *= 1 if train.averaging == "none" else 2
    seconds = (
        _seconds(lambda: task.train(state, controls(DENSE), task.hyper, 1)) / _WINDOWS * windows
        + _seconds(lambda: task.evaluate(state, "validation")) / _WINDOWS * evaluations
        + _seconds(lambda: task.spectrum(state)) / _STEPS * steps
    )
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
    return seconds, state_bytes


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


def _short_task(settings: TrainingSettings, corpus: Corpus) -> Task:
    """The task of the settings with few windows and steps of a spectrum."""
    spectrum = SpectrumConfig(settings.spectrum.state, settings.spectrum.share, _STEPS, 0, 1)
    recipe = dataclasses.replace(
        settings.train, segments_per_epoch=1, max_train_tokens=0, max_eval_tokens=0
    )
    short = _short_corpus(settings, corpus)
    return make_language_model_task(short, settings.model, recipe, spectrum, settings.seed)


def _short_corpus(settings: TrainingSettings, corpus: Corpus) -> Corpus:
    """Enough tokens for the windows that are measured, and no more."""
    train = settings.train
    trained = train.batch_size * (_WINDOWS * train.bptt + 1)
    evaluated = train.eval_batch_size * (_WINDOWS * train.bptt + 1)
    evaluated = max(evaluated, _STEPS + 1)
    return corpus._replace(
        train=corpus.train[:trained],
        validation=corpus.validation[:evaluated],
        test=corpus.test[:evaluated],
    )


def _num_tokens(tokens: Any, longest: int) -> int:
    return min(len(tokens), longest or len(tokens))


def _seconds(function: Callable[[], Any]) -> float:
    """The shorter of two runs, after one that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(2):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return min(times)


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


def describe_rounds(settings: Settings) -> str:
    """The space of a search, its rounds and its epochs, as text."""
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
    return (
        f"{describe_rounds(settings)}\n"
        f"{describe_population(settings, cost.fit)}"
        f"Disk: at most {_bytes(cost.bytes_on_disk)} of checkpoints\n"
        f"Time: {about} {duration(cost.seconds)}, {duration(cost.seconds_per_epoch)} an epoch with "
        "evaluation and spectrum, measured on a few windows here"
        f"{', one candidate at a time' if cost.fit else ''}; compiling comes on top"
    )


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
