"""The commands of the studies: tables of networks trained to the end, and what is made of them."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from lsh_jax.accelerators import use_compile_cache
from lsh_jax.cli.running import Command, run_command
from lsh_jax.cli.workplace import cache_directory
from lsh_jax.config import ConfigError, check_choice
from lsh_jax.data import load_corpus
from lsh_jax.progress import about
from lsh_jax.study.runner import describe_machine, jobs, run_study
from lsh_jax.study.settings import StudyConfig
from lsh_jax.study.table import finished, seconds_each


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Trains the networks of studies to their ends; what a table holds is not trained again."""

    studies: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of studies; all of them if none is given."""
    data_dir: str | None = None
    """Folder of ptb.train.txt, ptb.valid.txt and ptb.test.txt."""
    out: str | None = None
    """Folder of the tables, one folder a study; that of the repository if not given."""
    part: str = "1/1"
    """i/n trains every n-th network from the i-th on: so n processes share a study."""
    cache_dir: str | None = None
    """Corpora and compiled programs; ~/.cache/lsh_jax if not given."""
    dry_run: bool = False
    """Say what is missing, and stop."""


def train_studies(
    known: Mapping[str, StudyConfig],
    out: pathlib.Path,
    script: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Runs the command.

    Args:
      known: the studies by name.
      out: of their tables, where --out is not given.
      script: the program's name, for --help.
      arguments: without it; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """

    def parse(arguments: Sequence[str]) -> StudySettings:
        description = f"{StudySettings.__doc__} Known: {', '.join(known)}."
        return tyro.cli(StudySettings, prog=script, description=description, args=list(arguments))

    def act(settings: StudySettings) -> int:
        for name in settings.studies:
            check_choice("studies", name, tuple(known))
        part = _part(settings.part)
        cache = cache_directory(settings.cache_dir)
        use_compile_cache(cache / "compiled")
        for name in settings.studies or known:
            directory = pathlib.Path(settings.out or out) / name
            _describe(name, known[name], directory)
            if not settings.dry_run:
                _train(name, known[name], directory, settings, part, cache)
        return 0

    return run_command(Command(parse, act), arguments)


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"`part` must be i/n with 1 <= i <= n, got {text!r}.")
    return int(index), int(count)


def _describe(name: str, study: StudyConfig, directory: pathlib.Path) -> None:
    """What is missing and about how long it takes, from what is there."""
    done = finished(directory)
    left = [(n.name, seed) for n, seed in jobs(study) if (n.name, seed) not in done]
    text = f"{name}: {len(left)} of {len(jobs(study))} networks to train"
    known = seconds_each(directory)
    if left and known:
        seconds = sum(known.get(network, known["0"]) for network, _ in left if "0" in known)
        text += f", {about(seconds)} of one process" if seconds else ""
    print(text, flush=True)


def _train(
    name: str,
    study: StudyConfig,
    directory: pathlib.Path,
    settings: StudySettings,
    part: tuple[int, int],
    cache: pathlib.Path,
) -> None:
    data_dir = settings.data_dir if study.data == "ptb" else None
    corpus = load_corpus(study.data, data_dir, study.model.vocab_size, cache_dir=cache)

    def on_line(of: str, line: dict[str, Any]) -> None:
        nll = line["val_nll_averaged"]
        shown = f"{math.exp(nll):.2f}" if nll < 100 else "beyond numbers"
        which = f"{name} {of}: {line['network']}, seed {line['seed']}, epoch {line['epoch']}"
        print(f"{which}: validation perplexity {shown}, {line['wall_s']:.1f} s", flush=True)

    run_study(study, corpus, directory, part=part, machine=describe_machine(), on_line=on_line)
