"""The command `python experiments/hypersearch.py`: settings in, run directory and report out."""

import os

# The many small QR factorizations of a spectrum: OpenBLAS's threads and XLA's wait for each other,
# which on a busy machine costs a factor of 2 to 10 (benchmarks/README.md). Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dataclasses
import itertools
import math
import pathlib
import re
import sys
import time
from collections.abc import Sequence

import jax

from lsh_jax.accelerators import select_accelerator, use_compile_cache
from lsh_jax.checkpoint import SavedModel, load_model
from lsh_jax.config import ConfigError
from lsh_jax.data import Corpus, load_corpus
from lsh_jax.estimate import Estimate, estimate
from lsh_jax.presets import PRESETS, Settings, to_json
from lsh_jax.progress import duration, progress
from lsh_jax.report import headline, write_report
from lsh_jax.search.dense import DenseReference, SearchError, foreign_dense, load_dense
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.ledger import LedgerError
from lsh_jax.search.run_directory import LEDGER, check_vacant
from lsh_jax.search.successive_halving import num_epochs, plan
from lsh_jax.search.task import Task
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls

_BAD_INPUT, _FAILED, _INTERRUPTED = 2, 1, 130  # exit statuses
_RUNS = pathlib.Path("runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    settings = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = dataclasses.replace(settings, out=str(run_directory(settings)))
        return _search(settings)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return _BAD_INPUT
    except (SearchError, LedgerError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        begun = (pathlib.Path(settings.out or "") / "config.json").is_file()
        how = f"the same command with --resume --out={settings.out} goes on from here"
        print(f"\ninterrupted; {how if begun else 'nothing was begun'}", file=sys.stderr)
        return _INTERRUPTED


def parse(arguments: Sequence[str]) -> Settings:
    """Reads flags over the preset that they name.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    import tyro

    arguments = _split_sets(arguments)
    preset = "quick"
    for flag, following in itertools.pairwise([*arguments, ""]):
        if flag == "--preset":
            preset = following
        elif flag.startswith("--preset="):
            preset = flag.removeprefix("--preset=")
    default = PRESETS.get(preset, PRESETS["quick"])  # type: ignore[call-overload]
    return tyro.cli(
        Settings,
        prog="hypersearch.py",
        description=Settings.__doc__,
        default=default,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )


def _split_sets(arguments: Sequence[str]) -> list[str]:
    """Turns the comma lists of --space.* into the separate words that tyro reads."""
    split: list[str] = []
    in_space = False
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            in_space = flag.startswith("--space.")
            split += [flag, *value.split(",")] if in_space and equals else [argument]
        else:
            split += argument.split(",") if in_space else [argument]
    return split


def _search(settings: Settings) -> int:
    config = settings.search()
    rounds = plan(config)
    cache = cache_directory(settings)
    out = pathlib.Path(settings.out or run_directory(settings))
    if not settings.dry_run:
        check_vacant(out, resume=settings.resume)
    device = select_accelerator(settings.accelerator)
    use_compile_cache(cache / "compiled")
    print(f"Device: {device.device_kind} ({device.platform}), {_num_cores()} cores")
    saved, settings = _foreign_model(settings)
    config = settings.search()
    vocabulary = saved.vocabulary if saved else None
    corpus = load_corpus(
        settings.data, settings.data_dir, settings.model.vocab_size, vocabulary, cache_dir=cache
    )
    task = make_language_model_task(
        corpus, settings.model, settings.train, settings.spectrum, config.seed
    )
    unigram = None if task.baseline_nll is None else math.exp(task.baseline_nll)
    print(_describe_data(settings, corpus, unigram))
    if settings.dry_run:
        print(describe_plan(settings, estimate(settings, corpus)))
        return 0
    for line in _describe_rounds(settings):
        print(line)
    print(f"Run directory: {out}")
    total = num_epochs(config, rounds) + config.dense_seeds * config.final_epochs
    with progress(total, task.segments_per_epoch, unigram) as listener:
        found = hyperprune(
            task,
            config,
            out=out,
            dense=_dense(settings, task, saved),
            cache_dir=cache,
            resume=settings.resume,
            settings={
                **to_json(settings),
                "source_sha256": corpus.source_sha256,
                "device": device.device_kind,
            },
            keep_all_checkpoints=settings.keep_checkpoints,
            on_event=listener,
        )
    write_report(out)
    print(headline(found.result))
    print(f"Report: {out / 'report.html'}")
    return 0


def cache_directory(settings: Settings) -> pathlib.Path:
    """Where corpora, dense networks and compiled programs are kept between runs."""
    if settings.cache_dir is not None:
        return pathlib.Path(settings.cache_dir)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "lsh_jax"


def run_directory(settings: Settings) -> pathlib.Path:
    """--out, or one that tells when and what; to resume, the newest of the preset and seed.

    Raises:
      ConfigError: when there is no run to resume.
    """
    if settings.out is not None:
        return pathlib.Path(settings.out)
    suffix = f"{settings.preset}-{settings.seed}"
    if not settings.resume:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{suffix}"
        names = itertools.chain([name], (f"{name}.{count}" for count in itertools.count(2)))
        return next(_RUNS / own for own in names if not (_RUNS / own).exists())
    runs = [path for path in _RUNS.glob(f"*-{suffix}") if re.match(r"\d{8}-\d{6}-", path.name)]
    if not runs:
        raise ConfigError(
            f"`resume` must find a run of this preset and seed in {str(_RUNS)!r}, got none: name "
            "it with --out."
        )
    return max(runs)


def _num_cores() -> str:
    return os.environ.get("NPROC") or str(len(os.sched_getaffinity(0)))


def _foreign_model(settings: Settings) -> tuple[SavedModel | None, Settings]:
    """A saved model given as --dense, and the settings that it forces."""
    if settings.dense is None or (pathlib.Path(settings.dense) / LEDGER).is_file():
        return None, settings
    if not (pathlib.Path(settings.dense) / "model.json").is_file():
        raise ConfigError(
            f"`dense` must be a run directory or a saved model, got {settings.dense!r}."
        )
    saved = load_model(settings.dense)
    print("Note: the dense model has no history, so --reference=final and its own sizes are used.")
    return saved, dataclasses.replace(settings, reference="final", model=saved.model.config)


def _dense(settings: Settings, task: Task, saved: SavedModel | None) -> DenseReference | None:
    """The dense network given as --dense, if there is one."""
    if settings.dense is None:
        return None
    if saved is None:
        return load_dense(task, pathlib.Path(settings.dense))
    state = task.init(jax.random.key(settings.seed), controls(DENSE), task.hyper)
    return foreign_dense(task, state._replace(params=saved.params), settings.seed)


def _describe_data(settings: Settings, corpus: Corpus, unigram: float | None) -> str:
    train, model = settings.train, settings.model
    used = min(len(corpus.train), train.max_train_tokens or len(corpus.train))
    return (
        f"Data: {settings.data}, {used:,} training tokens of {len(corpus.train):,}, "
        f"{len(corpus.vocabulary):,} types, unigram perplexity {unigram or math.nan:.1f}\n"
        f"Model: {model.cell.upper()} {model.num_layers} x {model.hidden_size}, "
        f"sparsity {settings.sparsity:g}"
    )


def _describe_rounds(settings: Settings) -> list[str]:
    config = settings.search()
    rounds = plan(config)
    own, full = num_epochs(config, rounds), config.max_evals * config.final_epochs
    steps = ", ".join(f"{entering} to epoch {epochs}" for entering, epochs in rounds)
    dense = config.dense_seeds * config.final_epochs
    return [
        f"Rounds: {steps}, {rounds[-1].num_entering} to epoch {config.final_epochs}",
        f"Epochs: {own} of candidates and {dense} of the dense network; training every candidate "
        f"to the end takes {full} (ratio {own / full:.2f}, with the dense network "
        f"{(own + dense) / full:.2f})",
    ]


def describe_plan(settings: Settings, cost: Estimate) -> str:
    """The plan of a search as text."""
    live = round((1 - settings.sparsity) * cost.num_weights)
    return "\n".join(
        [
            f"Weights: {cost.num_weights:,} prunable, {live:,} of them live in a candidate",
            *_describe_rounds(settings),
            f"Disk: at most {cost.bytes_on_disk / 2**20:,.0f} MiB of checkpoints",
            f"Time: about {duration(cost.seconds)}, {duration(cost.seconds_per_epoch)} an epoch "
            "with evaluation and spectrum, measured on a few windows here; compiling comes on top",
        ]
    )
