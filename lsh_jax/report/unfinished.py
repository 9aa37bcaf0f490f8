"""The sections of the page of a search that has no result yet: running, stopped or failed."""

import collections
from collections.abc import Iterable, Iterator

from lsh_jax.report import evidence, sections, trials
from lsh_jax.report.controls import column_names, control, heading
from lsh_jax.report.formatting import MISSING, number, plural, with_error
from lsh_jax.report.page import Block, Facts, Section, Table, Text
from lsh_jax.report.run import Run, given, round_name
from lsh_jax.report.standing import Standing, ranking
from lsh_jax.search.dense import name_remedy
from lsh_jax.search.ledger import Record
from lsh_jax.search.space import pool_size
from lsh_jax.types import Hyper

_BEST = 10  # candidates in the table of the best
_REASONS = 3  # that the lead sentence has room for


def unfinished_sections(standing: Standing) -> Iterator[Section]:
    """Everything that can be said by now."""
    run = standing.run
    yield _standing_section(standing)
    if run.candidates or run.dense:
        yield evidence.curves_section(run)
    if run.candidates and run.spectra:
        yield evidence.spectra_section(run)
    if run.candidates or run.dense:
        yield trials.trials_section(run)
    failures = _failures(standing)
    if failures:
        columns = ("#times", "trials", "reason")
        yield Section("Failures by reason", [Table(columns, failures)])
    yield sections.settings_section(run)


def _standing_section(standing: Standing) -> Section:
    run = standing.run
    blocks: list[Block] = [
        Text(" ".join(_lead(standing)), "lead"),
        Facts(list(_facts(standing))),
        *(Text(text) for text in _tuning(standing)),
    ]
    best = ranking(run)
    if best:
        blocks += [Text(_judged_by(run, best)), _best_table(run, best[:_BEST])]
    return Section("Where it stands", blocks)


def _lead(standing: Standing) -> Iterator[str]:
    """What stands on record, and what to do where that is no good."""
    run = standing.run
    if run.candidates and all(map(_has_failed, run.candidates.values())):
        yield f"All {len(run.candidates)} candidates failed: {_reasons(run.candidates.values())}."
        yield _remedy(standing)
    elif standing.tuning and all(map(_has_failed, standing.tuning)):
        yield (
            f"All {len(standing.tuning)} trials that tune the dense network failed: "
            f"{_reasons(standing.tuning)}."
        )
        yield _remedy(standing)
    elif run.candidates or run.dense or standing.tuning:
        yield f"Not finished: {'; '.join(_progress(standing))}."
    else:
        yield "Not finished: nothing is recorded yet."
    if standing.running:
        yield "The search is running."
    elif not _is_failed(standing):
        yield "The search is stopped; continue it with --resume."


def _is_failed(standing: Standing) -> bool:
    """Whether a search has ended without a network to go on with."""
    histories = [*standing.run.candidates.values()] or standing.tuning
    return not standing.running and bool(histories) and all(map(_has_failed, histories))


def _progress(standing: Standing) -> Iterator[str]:
    run, settings = standing.run, standing.settings
    if run.candidates or not standing.tuning:
        scored, failed = _count_scored(run), _count_failed(run.candidates.values())
        most = f" of at most {pool_size(settings)}" if settings else ""
        yield f"{scored}{most} candidates scored, {failed} failed"
    if run.rounds:
        alive = plural(len(run.rounds[-1]["survivors"]), "candidate")
        verb = "are" if run.finalists else "is"
        yield f"{round_name(run, len(run.rounds))} {verb} under way with {alive}"
    if run.dense or not standing.tuning:
        yield _dense_progress(standing)
    else:
        failed = _count_failed(standing.tuning)
        yield (
            f"the dense network is being tuned, {plural(len(standing.tuning), 'trial')} on "
            f"record, {failed} failed"
        )


def _dense_progress(standing: Standing) -> str:
    run, settings = standing.run, standing.settings
    if given(run):
        return "the dense network was given"
    if not run.dense:
        return "the dense network is not on record yet"
    epochs = [str(history[-1].epoch) for history in run.dense]
    of = f" of {settings.final_epochs}" if settings else ""
    if len(epochs) == 1:
        return f"the dense network has {epochs[0]}{of} epochs"
    return f"the dense networks have {' and '.join(epochs)}{of} epochs"


def _remedy(standing: Standing) -> str:
    space = standing.settings.space if standing.settings else None
    chosen = [name for name in Hyper._fields if getattr(space, name, ())]
    return f"{name_remedy(chosen)} Failed trials are not trained again: start another run."


def _facts(standing: Standing) -> Iterator[tuple[str, str]]:
    run = standing.run
    histories = run.candidates.values()
    state = "failed" if _is_failed(standing) else "running" if standing.running else "stopped"
    yield "state", state
    yield "candidates on record", f"{len(histories):,}"
    yield "failed", f"{_count_failed(histories):,}"
    if run.repeats:
        yield "repetitions", f"{len(run.repeats):,}"
    yield "epochs of candidates", f"{sum(map(len, histories)):,}"
    if not given(run):
        yield "epochs of dense networks", f"{sum(map(len, run.dense)):,}"
    if standing.tuning:
        yield "epochs of their tuning", f"{sum(map(len, standing.tuning)):,}"
    if run.candidates and state != "failed":
        yield "under way", round_name(run, len(run.rounds))
    if run.leader is not None:
        yield "best so far", f"trial {run.leader}"


def _tuning(standing: Standing) -> Iterator[str]:
    """The trials that tune the dense network, as long as it is not chosen."""
    measure = standing.run.measure
    if not standing.tuning or standing.run.dense:
        return
    scored = [
        record
        for history in standing.tuning
        for record in history
        if record.status == "ok" and record.val_nll is not None
    ]
    text = (
        "Hyperparameters of training are searched as well, so the dense network is tuned first: "
        f"{plural(len(standing.tuning), 'trial')} so far"
    )
    if scored:
        best = min(scored, key=lambda record: (record.val_nll, record.epoch, record.trial))
        text += (
            f", the lowest validation {measure.name} {number(measure.of_record(best))}, of trial "
            f"{best.trial} after epoch {best.epoch}"
        )
    yield f"{text}. Candidates follow once it is chosen."


def _judged_by(run: Run, best: list[Record]) -> str:
    shown = f"The best {_BEST} of {len(best)}" if len(best) > _BEST else "The best"
    if run.finalists:
        return (
            f"The finalists so far, by the lowest validation {run.measure.name} of their epochs, "
            "which chooses the winner:"
        )
    score = sections.SCORES.get(run.result.get("metric", ""), "the score")
    return (
        f"{shown} candidates so far, by {score} after epoch {best[0].epoch}, at which all in the "
        "table were scored; lower is better:"
    )


def _best_table(run: Run, best: list[Record]) -> Table:
    names = column_names(run)
    measure = run.measure
    columns = (
        "trial",
        "#score",
        f"#val. {measure.short}",
        "#LS dist. ± s.e.",
        "#epoch",
        "#last epoch",
    )
    rows = [
        [
            str(record.trial),
            number(record.score),
            number(measure.of_record(record)),
            with_error(record.ls_distance, record.ls_std_error),
            str(record.epoch),
            str(_last_epoch(run, record)),
            *(control(record.controls, name) for name in names),
        ]
        for record in best
    ]
    return Table((*columns, *map(heading, names)), rows)


def _last_epoch(run: Run, record: Record) -> int:
    assert isinstance(record.trial, int)
    return run.candidates[record.trial][-1].epoch


def _failures(standing: Standing) -> list[list[str]]:
    """How often each reason was given and of which trials, the most frequent first."""
    found: dict[str, list[str]] = {}
    groups = (("", standing.run.candidates.values()), ("tuning ", standing.tuning))
    for words, histories in groups:
        for history in filter(_has_failed, histories):
            last = history[-1]
            found.setdefault(last.reason or MISSING, []).append(f"{words}{last.trial}")
    ordered = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [[str(len(own)), ", ".join(own), reason] for reason, own in ordered]


def _reasons(histories: Iterable[list[Record]]) -> str:
    """The reasons with their counts, the most frequent first."""
    counts = collections.Counter(history[-1].reason or MISSING for history in histories)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = [f"{reason} ({count})" for reason, count in ordered[:_REASONS]]
    rest = len(ordered) - len(shown)
    return "; ".join(shown) + (f"; and {plural(rest, 'other reason')}" if rest else "")


def _has_failed(history: list[Record]) -> bool:
    return history[-1].status == "failed"


def _count_failed(histories: Iterable[list[Record]]) -> int:
    return sum(map(_has_failed, histories))


def _count_scored(run: Run) -> int:
    """The candidates that have come to the first score and have not failed."""
    e0 = run.search.get("e0", 1)
    return sum(
        not _has_failed(history)
        and any(record.epoch >= e0 and record.score is not None for record in history)
        for history in run.candidates.values()
    )
