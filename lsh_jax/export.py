"""`python -m lsh_jax.export RUN`: a run as a table for a spreadsheet, or as a study of Optuna."""

import argparse
import csv
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lsh_jax.config import ConfigError, SpaceConfig
from lsh_jax.report.run import Run, outcome, read_config, read_histories
from lsh_jax.report.standing import read_any
from lsh_jax.report.values import is_number
from lsh_jax.search.ledger import LedgerError, Record
from lsh_jax.search.space import matters

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_COLUMNS = [
    field.name for field in dataclasses.fields(Record) if field.name not in ("controls", "topology")
]
_CONTROLS = tuple(field.name for field in dataclasses.fields(SpaceConfig))


def write_csv(run: pathlib.Path, path: pathlib.Path) -> None:
    """Writes the ledger of a run, finished or not, as a table with one line a record.

    The columns are those of `Record`, empty where it has None. A control becomes `control.<name>`,
    a share of the masks `topology.<name>`; lists are JSON.

    Args:
      run: the run directory.
      path: the file to write, over what is there.

    Raises:
      ConfigError: when there is no run.
      LedgerError: when its ledger cannot be read.
      OSError: when the file cannot be written.
    """
    read_config(run)
    rows = [_row(record) for history in read_histories(run).values() for record in history]
    further = dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS)
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        table = csv.DictWriter(file, [*_COLUMNS, *further])
        table.writeheader()
        table.writerows(rows)


def _row(record: Record) -> dict[str, Any]:
    own = {name: getattr(record, name) for name in _COLUMNS}
    own |= _flat("control", record.controls)
    return own | _flat("topology", record.topology or {})


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict):
            found |= _flat(name, value)
        else:
            found[name] = json.dumps(value) if isinstance(value, list) else value
    return found


def write_optuna_study(run: pathlib.Path, storage: str, study_name: str | None = None) -> None:
    """Writes the trials of a run, finished or not, as a study of Optuna that minimises the score.

    Finalists are COMPLETE, trials that were cut or repeat another PRUNED, failed ones FAIL. Those
    of a search without a result that may still go on are RUNNING and have no value. The value of
    the others is the score that they were last judged by: of a trial that was cut at the end of
    its last round, of a finalist at the end of the last round of all. Scores of different epochs
    cannot be compared. The winner, whom the lowest validation perplexity chooses, has the user
    attribute "winner".

    The study has the user attributes "metric", by which candidates were judged, and "measure", in
    which a report tells how well they do; a trial has its nll, and exp of that as "val_perplexity".

    Other user attributes: "trial" of the ledger, "epochs" trained, "seed", "sparsity", "nonzeros";
    "val_nll" and "val_perplexity", the lowest of its epochs; the last "ls_distance"; "reason" of a
    failure; "duplicate_of". Parameters are the controls that rule something; intermediate values
    are the scores by epoch. Times are those of the export.

    Args:
      run: the run directory.
      storage: URL of a database, such as "sqlite:///study.db".
      study_name: a new name; that of the run directory if not given.

    Raises:
      ConfigError: when there is no run, the name is taken, or the storage cannot be used.
      LedgerError: when its ledger cannot be read.
    """
    try:
        import optuna
        import sqlalchemy.pool  # comes with it
    except ImportError as error:
        raise ConfigError(
            '`optuna` must be installed to write a study: pip install "lsh-jax[optuna]".'
        ) from error
    read = read_any(run)
    name = read.name if study_name is None else study_name
    trials = _frozen_trials(read)
    try:
        # Without a pool every connection is closed after its use.
        database = optuna.storages.RDBStorage(
            storage, engine_kwargs={"poolclass": sqlalchemy.pool.NullPool}
        )
        study = optuna.create_study(study_name=name, storage=database, direction="minimize")
        study.set_user_attr("metric", read.search.get("metric"))
        study.set_user_attr("measure", read.measure.name)
        study.add_trials(trials)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise ConfigError(
            f"`study_name` must be new in the storage, got {name!r}: take another (--study-name)."
        ) from error
    except Exception as error:  # each kind of database raises what its driver does
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"`storage` must be the URL of a database that can be written: {reason}"
        ) from error


def _frozen_trials(run: Run) -> "list[FrozenTrial]":
    """The trials in the order of their numbers."""
    histories = [*run.candidates.values(), *([record] for record in run.repeats)]
    histories.sort(key=lambda history: history[-1].trial)
    distributions = _distributions(history[-1].controls for history in histories)
    return [_frozen_trial(run, history, distributions) for history in histories]


def _frozen_trial(
    run: Run, history: list[Record], distributions: "Mapping[str, BaseDistribution]"
) -> "FrozenTrial":
    from optuna.distributions import FloatDistribution
    from optuna.trial import TrialState, create_trial

    state, value = _state(run, history), _value(run, history)
    attributes = dict(_attributes(run, history))
    if value is None and state in ("COMPLETE", "PRUNED"):
        state, attributes["reason"] = "FAIL", "it was never scored"
    own = dict(_parameters(history[-1].controls))
    return create_trial(
        state=TrialState[state],
        value=value if state in ("COMPLETE", "PRUNED") else None,
        params={
            name: float(chosen) if isinstance(distributions[name], FloatDistribution) else chosen
            for name, chosen in own.items()
        },
        distributions={name: distributions[name] for name in own},
        user_attrs=attributes,
        intermediate_values={r.epoch: r.score for r in history if r.score is not None},
    )


def _state(run: Run, history: list[Record]) -> str:
    ended = outcome(run, history)
    if ended == "winner":
        return "COMPLETE"
    if history[-1].status == "failed":
        return "FAIL"
    if ended == "finalist":
        return "COMPLETE" if run.winner is not None else "RUNNING"
    return "RUNNING" if ended == "running or waiting" else "PRUNED"


def _value(run: Run, history: list[Record]) -> float | None:
    """The score that a trial was last judged by."""
    last = run.rounds[-1]["epochs"] if run.rounds else math.inf
    judged = [r.score for r in history if r.score is not None and r.epoch <= last]
    return judged[-1] if judged else None


def _attributes(run: Run, history: list[Record]) -> Iterator[tuple[str, Any]]:
    last = history[-1]
    losses = [r.val_nll for r in history if r.val_nll is not None]
    perplexities = [r.val_perplexity for r in history if r.val_perplexity is not None]
    distances = [r.ls_distance for r in history if r.ls_distance is not None]
    found = {
        "trial": last.trial,
        "epochs": last.epoch,
        "seed": last.seed,
        "sparsity": last.controls.get("sparsity"),
        "nonzeros": last.nonzeros,
        "val_nll": min(losses, default=None),
        "val_perplexity": min(perplexities, default=None),
        "ls_distance": distances[-1] if distances else None,
        "reason": last.reason,
        "duplicate_of": last.duplicate_of,
        "winner": last.trial == run.winner or None,
    }
    return ((name, value) for name, value in found.items() if value is not None)


def _parameters(controls: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The controls of a candidate that rule something, as values that Optuna knows."""
    for name in _CONTROLS:
        if name in controls and matters(name, controls):
            value = controls[name]
            known = value is None or isinstance(value, str | bool) or is_number(value)
            yield name, value if known else json.dumps(value)


def _distributions(candidates: Iterable[Mapping[str, Any]]) -> "dict[str, BaseDistribution]":
    """What was drawn from, by the controls seen: a range of numbers, else a choice."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    seen: dict[str, dict[str, Any]] = {}
    for controls in candidates:
        for name, value in _parameters(controls):
            seen.setdefault(name, {})[json.dumps(value)] = value
    found: dict[str, BaseDistribution] = {}
    for name, values in seen.items():
        if all(map(is_number, values.values())):
            found[name] = FloatDistribution(min(values.values()), max(values.values()))
        else:
            found[name] = CategoricalDistribution([values[text] for text in sorted(values)])
    return found


def main(arguments: list[str] | None = None) -> int:
    """Exports a run.

    Args:
      arguments: of the command line; those of this process if not given.

    Returns:
      The exit status: 0, or 2 when the run cannot be read or the export not written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lsh_jax.export",
        description="Writes a run as a table, or as a study of Optuna.",
    )
    parser.add_argument("run", type=pathlib.Path, help="the run directory")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE", help="one line a record")
    parser.add_argument("--optuna", metavar="URL", help="a database, e.g. sqlite:///study.db")
    parser.add_argument("--study-name", help="a new name; that of the run if not given")
    flags = parser.parse_args(arguments)
    if flags.csv is None and flags.optuna is None:
        parser.error("name --csv=FILE, --optuna=URL, or both")
    try:
        if flags.csv is not None:
            write_csv(flags.run, flags.csv)
            print(flags.csv)
        if flags.optuna is not None:
            write_optuna_study(flags.run, flags.optuna, flags.study_name)
            print(flags.optuna)
    except (ConfigError, LedgerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
