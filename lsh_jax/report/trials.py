"""The table of all trials."""

import math

from lsh_jax.report.controls import column_names, control, heading
from lsh_jax.report.formatting import MISSING, number, setting, with_error
from lsh_jax.report.page import Section, Table, Text
from lsh_jax.report.run import GIVEN, Run, given, outcome
from lsh_jax.report.sections import SCORES
from lsh_jax.search.ledger import Record, best_epoch


def trials_section(run: Run) -> Section:
    """Every trial after its last epoch, the columns to compare by first."""
    histories = sorted(run.candidates.values(), key=lambda history: _rank(run, history))
    histories += [[record] for record in run.repeats]
    names = column_names(run)
    rows = [_cells(run, outcome(run, history), history, names) for history in histories]
    for index, history in enumerate(run.dense):
        ended = "other seed" if index else "reference"
        rows.append(_cells(run, GIVEN if given(run) else ended, history, names))
    marks = [_mark(run, history) for history in histories] + [""] * len(run.dense)
    if not rows:
        return Section("Trials", [Text("The ledger holds no trial.")])
    hidden = set()
    if run.result.get("metric") == "ls":
        hidden.add("#score")  # it is the LS distance
    if all(row["status"] == "ok" for row in rows):
        hidden.add("status")
    if all(row["#floored"] in ("0", MISSING) for row in rows):
        hidden.add("#floored")
    columns = [name for name in rows[0] if name not in hidden]
    cells = [[row[name] for name in columns] for row in rows]
    score = SCORES.get(run.result.get("metric", ""), "see the settings")
    floored = "Floored: exponents of dead directions. "
    note = (
        f"Values are those after a trial's last epoch. Val. {run.measure.short}: validation "
        f"{run.measure.name}, and the best one with its epoch. LS dist.: LS distance to the dense "
        f"network and its standard error. The search minimised {score}"
        f"{' (score)' * ('#score' in columns)}. Redistr.: redistribution. Churn: share of the live "
        "weights replaced at a topology update. Live: "
        f"weights that are not pruned. {'' if '#floored' in hidden else floored}Trials were "
        "trained for different numbers of epochs: compare them at equal ones only."
    )
    return Section("Trials", [Table(columns, cells, marks), Text(note, "note")])


def _rank(run: Run, history: list[Record]) -> tuple[bool, bool, float, int, float, int]:
    """Winner, finalists by their best epochs, then who came furthest with the best score."""
    last = history[-1]
    final = last.trial in run.finalists
    nll = min((r.val_nll for r in history if r.val_nll is not None), default=math.inf)
    score = math.inf if last.score is None else last.score
    assert isinstance(last.trial, int)
    return (
        last.trial != run.winner,
        not final,
        nll if final else 0.0,
        -(last.round or 0),
        score,
        last.trial,
    )


def _cells(run: Run, ended: str, history: list[Record], names: list[str]) -> dict[str, str]:
    """The row of a trial by column, with the controls of `names`."""
    last, measure = history[-1], run.measure
    best = MISSING
    if any(record.status == "ok" and record.val_nll is not None for record in history):
        epoch = best_epoch(history)
        (record,) = (record for record in history if record.epoch == epoch)
        best = number(measure.of_record(record)) + (f" ({epoch})" if epoch else "")
    controls = {heading(name): control(last.controls, name) for name in names}
    return {
        "trial": str(last.trial),
        "outcome": ended,
        f"#val. {measure.short}": number(measure.of_record(last)),
        "#best (epoch)": best,
        "#last epoch": str(last.epoch) if last.epoch else MISSING,
        "#LS dist. ± s.e.": with_error(last.ls_distance, last.ls_std_error),
        **controls,
        "#score": number(last.score),
        "#churn": number(last.churn, 2),
        "#live": MISSING if last.nonzeros is None else f"{last.nonzeros:,}",
        "#floored": setting(last.floored),
        "status": last.status if last.reason is None else f"{last.status}: {last.reason}",
    }


def _mark(run: Run, history: list[Record]) -> str:
    return {"winner": "winner", "finalist": "finalist", "repeats": "repeat"}.get(
        outcome(run, history).split(" ")[0], "failed" if history[-1].status == "failed" else ""
    )
