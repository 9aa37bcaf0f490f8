"""Run directories of searches over the toy task, whole and as they are on the way."""

import dataclasses
import math
import shutil

from toy import make_task

from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger

CONFIG = SearchConfig(
    max_evals=6,
    e0=2,
    ei=1,
    final_epochs=5,
    space=SpaceConfig(init=("uniform",), growth=("random",), redistribution=("none",)),
)


def one_rate_fails(controls, epoch):
    """Spoils the candidates of one death rate in their second epoch."""
    return math.nan if epoch == 2 and abs(float(controls.death_rate) - 0.5) < 1e-3 else None


def all_fail(controls, epoch):
    """Spoils every candidate, some in other words than others."""
    if float(controls.death_rate) > 0.65:
        raise ValueError("too <b>high</b>")
    return math.nan


def search(run, fails=one_rate_fails, on_event=None, **changes):
    """Runs a search and returns its directory."""
    config = dataclasses.replace(CONFIG, **changes)
    hyperprune(make_task(fails), config, out=run, on_event=on_event)
    return run


def cut_short(finished, run, keep):
    """A copy of a finished run without its result and what is made of it, and with some records.

    Args:
      finished: its directory.
      run: the new one.
      keep: tells of a record whether it is kept.
    """
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("result.json", "*.npz", "report*"))
    lines = [r.to_json() for r in Ledger(run / "trials.jsonl").records() if keep(r)]
    (run / "trials.jsonl").write_text("".join(f"{line}\n" for line in lines))
    shutil.rmtree(run / "dense", ignore_errors=True)
    return run


def up_to(epoch):
    """Keeps the dense networks and the candidates' records up to an epoch."""
    return lambda record: isinstance(record.trial, str) or record.epoch <= epoch


def pages(run):
    """Both files of a report."""
    return [(run / name).read_bytes() for name in ("report.html", "report.md")]
