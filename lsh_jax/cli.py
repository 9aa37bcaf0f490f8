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
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from lsh_jax.accelerators import select_accelerator, use_compile_cache
from lsh_jax.checkpoint import CheckpointError, SavedModel, load_model
from lsh_jax.config import ConfigError
from lsh_jax.data import Corpus, load_corpus
from lsh_jax.data.cache import default_cache_dir
from lsh_jax.data.vocabulary import UNK
from lsh_jax.estimate import (
    describe_model,
    describe_plan,
    describe_rounds,
    describe_unused_rows,
    estimate,
    total_epochs,
)
from lsh_jax.machine import visible_cores
from lsh_jax.presets import PRESETS, Settings, starting_point, to_json
from lsh_jax.progress import progress
from lsh_jax.report import headline, write_report
from lsh_jax.search.dense import DenseReference, SearchError, foreign_dense, load_dense
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.language_model_task import make_language_model_task, shorten
from lsh_jax.search.ledger import LedgerError
from lsh_jax.search.run_directory import LEDGER, check_vacant
from lsh_jax.search.space import check_space
from lsh_jax.search.successive_halving import plan
from lsh_jax.search.task import Task
from lsh_jax.search.trial import DENSE
from lsh_jax.search.tuning import check_dense_given
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
    out = None
    try:
        settings = _expand_users(parse(sys.argv[1:] if arguments is None else arguments))
        out = run_directory(settings)
        return _search(dataclasses.replace(settings, out=str(out)))
    except ConfigError as error:
        print(f"error: {_with_flags(str(error))}", file=sys.stderr)
        return _BAD_INPUT
    except (SearchError, LedgerError, CheckpointError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        begun = out is not None and (out / "config.json").is_file()
        how = f"the same command with --resume --out={out} goes on from here"
        print(f"\ninterrupted; {how if begun else 'nothing was begun'}", file=sys.stderr)
        return _INTERRUPTED


def _expand_users(settings: Settings) -> Settings:
    """Reads `~` in paths, which a shell leaves alone behind `--flag=`."""
    paths = ("out", "cache_dir", "dense", "data_dir")
    given = {name: getattr(settings, name) for name in paths if getattr(settings, name)}
    expanded: dict[str, Any] = {
        name: str(pathlib.Path(path).expanduser()) for name, path in given.items()
    }
    return dataclasses.replace(settings, **expanded)


def _with_flags(message: str) -> str:
    """Names settings in a message as the flags that the user typed."""
    flags = {field.name: f"--{field.name}" for field in dataclasses.fields(Settings)}
    for group in ("model", "train", "spectrum", "space"):
        for field in dataclasses.fields(getattr(PRESETS["quick"], group)):
            flags.setdefault(field.name, f"--{group}.{field.name}")
            flags[f"{group}.{field.name}"] = f"--{group}.{field.name}"

    def flag(match: re.Match[str]) -> str:
        return flags.get(match[1], match[0]).replace("_", "-")

    return re.sub(r"`([a-z0-9_.]+)`", flag, message)


def parse(arguments: Sequence[str]) -> Settings:
    """Reads flags over the preset that they name.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    import tyro

    arguments = _split_sets(arguments)
    default = starting_point(_given(arguments, "preset"), _given(arguments, "space-preset"))
    return tyro.cli(
        Settings,
        prog="hypersearch.py",
        description=Settings.__doc__,
        default=default,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )


def _given(arguments: Sequence[str], name: str) -> str:
    """The value of a flag before the flags are parsed, the last if there are two; or nothing."""
    value = ""
    for word, following in itertools.pairwise([*arguments, ""]):
        flag, equals, attached = word.partition("=")
        if flag.replace("_", "-") == f"--{name}":
            value = attached if equals else following
    return value


def _split_sets(arguments: Sequence[str]) -> list[str]:
    """Turns the comma lists of --space.* into the separate words that tyro reads.

    It knows True and False by these spellings alone; true and false are meant as well.
    """
    split: list[str] = []
    in_space = False
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            in_space = flag.startswith("--space.")
            split += [flag, *_words(value)] if in_space and equals else [argument]
        else:
            split += _words(argument) if in_space else [argument]
    return split


def _words(values: str) -> list[str]:
    return [value.title() if value in ("true", "false") else value for value in values.split(",")]


def _search(settings: Settings) -> int:
    plan(settings.search())  # refuses rounds that do not fit
    has_gates = settings.model.cell != "tanh"
    momentum = settings.train.momentum > 0
    check_space(settings.space, momentum=momentum, gates=has_gates, matrices=True)
    if settings.dense:
        check_dense_given(settings.space)
    cache = cache_directory(settings)
    out = pathlib.Path(settings.out or run_directory(settings))
    if not settings.dry_run:
        check_vacant(out, resume=settings.resume)
    device = select_accelerator(settings.accelerator)
    use_compile_cache(cache / "compiled")
    print(f"Device: {_describe_device(device)}, {visible_cores()} cores")
    saved, settings = _foreign_model(settings)
    vocabulary = saved.vocabulary if saved else None
    corpus = load_corpus(
        settings.data, settings.data_dir, settings.model.vocab_size, vocabulary, cache_dir=cache
    )
    task = make_language_model_task(
        corpus, settings.model, settings.train, settings.spectrum, settings.seed
    )
    statistics = _corpus_statistics(shorten(corpus, settings.train))
    assert task.baseline_nll is not None
    unigram = math.exp(task.baseline_nll["validation"])
    _describe_networks(settings, corpus, statistics, unigram, sized=saved is not None)
    if settings.dry_run:
        print(describe_plan(settings, estimate(settings, corpus)))
        return 0
    print(describe_rounds(settings))
    print(f"Run directory: {out}")
    with progress(total_epochs(settings), task.segments_per_epoch, unigram) as listener:
        found = hyperprune(
            task,
            settings.search(),
            out=out,
            dense=_dense(settings, task, saved),
            cache_dir=cache,
            resume=settings.resume,
            settings={
                **to_json(settings),
                "source_sha256": corpus.source_sha256,
                "corpus": statistics,
                "device": device.device_kind,
            },
            keep_all_checkpoints=settings.keep_checkpoints,
            on_event=listener,
        )
    write_report(out)
    print(headline(found.result))
    print(f"Report: {out / 'report.html'}")
    return 0


def _describe_networks(
    settings: Settings,
    corpus: Corpus,
    statistics: Mapping[str, Any],
    unigram: float,
    *,
    sized: bool,
) -> None:
    """Prints what is trained on what; `sized` where a saved model rules the sizes."""
    print(
        f"Data: {settings.data}, {statistics['train_tokens']:,} training tokens of "
        f"{len(corpus.train):,}, {statistics['types']:,} types, unigram perplexity {unigram:.1f}"
    )
    print(describe_model(settings))
    unused = describe_unused_rows(settings, statistics["types"])
    if unused and not sized:
        print(unused)


def _describe_device(device: jax.Device) -> str:
    same = device.device_kind == device.platform
    return device.platform if same else f"{device.device_kind} ({device.platform})"


def _corpus_statistics(corpus: Corpus) -> dict[str, Any]:
    """The tokens that are used, and the share of them that the vocabulary does not know."""
    splits = {name: getattr(corpus, name) for name in ("train", "validation", "test")}
    known = corpus.vocabulary
    unknown = known.index(UNK) if UNK in known else -1
    return {
        **{f"{name}_tokens": len(tokens) for name, tokens in splits.items()},
        "types": len(known),
        "unknown_share": {
            name: float((tokens == unknown).mean()) for name, tokens in splits.items()
        },
    }


def cache_directory(settings: Settings) -> pathlib.Path:
    """Where corpora, dense networks and compiled programs are kept between runs."""
    return pathlib.Path(settings.cache_dir) if settings.cache_dir else default_cache_dir()


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


def _foreign_model(settings: Settings) -> tuple[SavedModel | None, Settings]:
    """A saved model given as --dense, and the settings that it forces."""
    if settings.dense is None or (pathlib.Path(settings.dense) / LEDGER).is_file():
        return None, settings
    if not (pathlib.Path(settings.dense) / "model.json").is_file():
        raise ConfigError(
            f"`dense` must be a run directory or a saved model, got {settings.dense!r}."
        )
    saved = load_model(settings.dense)
    if not all(mask.all() for mask in jax.tree.leaves(saved.masks)):
        raise ConfigError(
            f"`dense` must be a dense network, got the pruned one in {settings.dense!r}: name the "
            "run directory to compare with the dense network of that run."
        )
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
