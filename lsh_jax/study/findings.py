"""The findings of all studies as Markdown tables, for documents that keep them between markers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lsh_jax.study.analysis import Estimate
from lsh_jax.study.claims import answer
from lsh_jax.study.policies import CHANCE, FULL, HINDSIGHT, LSH
from lsh_jax.study.scores import COMBINED, DISTANCE, LEADING, LOSS

Findings = Mapping[str, Any]  # {"studies": {name: `find`}, "searches": {name: `compare`}, ...}

_SHOWN = (
    DISTANCE,
    "hidden 50%",
    LEADING,
    "hidden 10%",
    "hidden last 30%",
    "hidden 100%, final dense",
    "hidden 100%, dense of the same loss",
    "hidden 100%, debiased",
    "hidden 100%, 35 steps",
    "hidden 100%, 500 steps",
    "hidden 100%, averaged weights",
    "full 10%",
    "full 30%",
    "full 100%",
    "paper's recipe",
    "paper's recipe, sorted",
    "mean of the leading 30%",
    "mean of all",
    "mean of all, averaged weights",
    "loss",
    LOSS,
    "training loss",
    "churn",
    "death rate",
    COMBINED,
)
_TENTH = 0.125  # the most that "about a tenth" can mean


def tables(findings: Findings, epoch: int) -> dict[str, str]:
    """Every table by name.

    Args:
      findings: of `experiments/analyse_study.py`.
      epoch: of the scores that are shown.
    """
    studies = findings["studies"]
    found = {
        "settings": _settings(studies, epoch),
        "claims": _claims({name: own["all"] for name, own in studies.items()}, epoch),
        "claims-learners": _claims(
            {name: own["learners"] for name, own in studies.items() if own["learners"]}, epoch
        ),
        "answers": _answers(findings, epoch),
        "answers-in-short": _answers_in_short(findings, epoch),
    }
    found["noise"] = _noise(studies, epoch)
    for name, study in studies.items():
        found[f"scores-{name}"] = _scores(study["all"], epoch)
        if len(study["baselines"]) > 1:
            found[f"baselines-{name}"] = _baselines(study["baselines"], study["setting"])
    for name, search in findings["searches"].items():
        found[f"policies-{name}"] = _policies(search)
    if findings.get("scouting"):
        found["scouting"] = _settings(findings["scouting"], epoch)
    if findings.get("published"):
        found["published"] = _published(findings["published"]["parts"])
    if findings.get("live"):
        found["live"] = _live(findings["live"], findings["searches"])
    return found


def fill(document: str, found: Mapping[str, str]) -> str:
    """Puts tables between `<!-- table: NAME -->` and `<!-- end -->`.

    Args:
      document: with the markers; places of other names stay as they are.
      found: tables by name.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name not in found:
            return match[0]
        return f"<!-- table: {name} -->\n\n{found[name]}\n\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", replaced, document, flags=re.DOTALL)


def _answers(findings: Findings, epoch: int) -> str:
    """The three claims of the method, by study."""
    studies, searches = findings["studies"], findings["searches"]
    rows: list[tuple[str, ...]] = []
    for number, name in ((0, "the loss"), (1, "the loss of averaged weights")):
        row = [f"foretells the final better than {name} (difference of rank correlations)"]
        for own in studies.values():
            claim = own["all"]["epochs"][str(epoch)]["claims"][number]
            row.append(f"{claim['answer']}: {_interval(claim['effect'])}")
        rows.append(tuple(row))
    for rival in ("loss, averaged", CHANCE, FULL):
        row = [f'finds a better network than "{rival}" (test perplexity, less is better)']
        for name in studies:
            row.append("")
            if name in searches:
                effect = Estimate(*searches[name]["policies"][rival]["dense_free"]["more_than_lsh"])
                row[-1] = f"{answer(effect)}: {_interval([-effect[0], -effect[2], -effect[1]])}"
        rows.append(tuple(row))
    row = ["costs about a tenth of training the pool to the end (share of epochs; with dense)"]
    for name in studies:
        row.append("")
        if name in searches:
            own = searches[name]
            ratios = [(own["budget"] + n) / own["full_search"] for n in (0, own["dense_epochs"])]
            verdict = "supported" if ratios[0] <= _TENTH else "not at this scale"
            row[-1] = f"{verdict}: {ratios[0]:.2f}; {ratios[1]:.2f}"
    rows.append(tuple(row))
    return _table(("LSH ...", *studies), rows)


def _answers_in_short(findings: Findings, epoch: int) -> str:
    """The same by study, a few words a cell; bold where the interval leaves out 0."""
    rows = []
    for name, study in findings["studies"].items():
        search = findings["searches"].get(name)
        effects = [Estimate(*study["all"]["epochs"][str(epoch)]["claims"][0]["effect"])]
        for rival in ("loss", "loss, averaged", FULL) if search else ():
            more = search["policies"][rival]["dense_free"]["more_than_lsh"]
            effects.append(Estimate(-more[0], -more[2], -more[1]))
        shown = [_interval(effect) for effect in effects]
        cells = [
            text if answer(effect) == "undecided" else f"**{text}**"
            for text, effect in zip(shown, effects, strict=True)
        ]
        if search:
            cells.append(f"{search['budget'] / search['full_search']:.2f}")
        rows.append((name, *cells, *[""] * (5 - len(cells))))
    head = (
        "study",
        "rank correlation more than by loss",
        "test perplexity against search by loss",
        "... by loss of averaged weights",
        "... random, trained to the end",
        "share of all epochs",
    )
    return _table(head, rows)


def _settings(studies: Mapping[str, Any], epoch: int) -> str:
    rows = []
    for name, study in studies.items():
        own = study.get("setting", study)
        spread, dense, test = own["spread"], own["dense"], own["candidates_test"]
        total = own["candidates"] * own["seeds"]
        rows.append(
            (
                name,
                f"{own['candidates']} x {own['seeds']}",
                f"{own['unigram_perplexity']:.1f}",
                _ratio(spread),
                _each(dense["test"]),
                f"{test['best']:.2f}, {test['median']:.2f}, {test['worst']:.2f}",
                f"{own['better_than_dense_on_test']} of {total}",
                f"{own['never_learned']}",
                f"{own['past_unigram'][str(epoch)]} of {total}",
                f"{own['seconds_a_network']:.0f}",
            )
        )
    head = (
        "study",
        "candidates x seeds",
        "unigram perplexity",
        "spread of finals: candidates / seeds",
        "dense, test",
        "candidates, test: best, median, worst",
        "better than the dense one on test",
        "never below the unigram",
        f"past the unigram at epoch {epoch}",
        "seconds a network",
    )
    return _table(head, rows)


def _ratio(spread: Mapping[str, float | None]) -> str:
    if spread["ratio"] is None:
        return ""
    return f"{spread['candidates']:.2f} / {spread['seeds']:.2f} = {spread['ratio']:.1f}"


def _noise(studies: Mapping[str, Any], epoch: int) -> str:
    rows = []
    for name, study in studies.items():
        for label, own in study["setting"]["noise_floor"].get(str(epoch), {}).items():
            values = (own["dense_seeds"], own["candidates_least"], own["candidates_median"])
            rows.append((name, label, *(f"{value:.2f}" for value in values)))
    head = ("study", "distance", "between dense seeds", "nearest candidate", "median candidate")
    return _table(head, rows)


def _scores(study: Mapping[str, Any], epoch: int) -> str:
    judged = study["epochs"][str(epoch)]["scores"]
    rows: list[tuple[str, ...]] = []
    for label in _SHOWN:
        if label not in judged:
            continue
        own = judged[label]
        rows.append(
            (
                label,
                _interval(own["spearman"]),
                _interval(own["kendall"]),
                _interval(own["given_loss"]),
                _interval(own["given_churn"]),
                _interval(own["within_growth"]),
                _interval(own["within_death"]),
                _interval(own["regret"]["1"], signed=False),
                _interval(own["regret"]["3"], signed=False),
            )
        )
    chance = study["chance_regret"]
    rows.append(("by chance", *[""] * 6, *(_interval(chance[n], signed=False) for n in ("1", "3"))))
    head = (
        "judge",
        "Spearman",
        "Kendall",
        "given the averaged loss",
        "given churn",
        "within a growth mode",
        "within a death mode",
        "regret, first",
        "regret, best of 3",
    )
    return _table(head, rows)


def _claims(studies: Mapping[str, Any], epoch: int) -> str:
    columns = {name: own["epochs"][str(epoch)]["claims"] for name, own in studies.items()}
    first: list[dict[str, Any]] = next(iter(columns.values()), [])
    rows = [
        (
            claim["claim"],
            *(
                f"{own[number]['answer']} ({_interval(own[number]['effect'])})"
                for own in columns.values()
            ),
        )
        for number, claim in enumerate(first)
    ]
    return _table(("claim", *columns), rows)


def _policies(search: Mapping[str, Any]) -> str:
    rows = []
    for name, own in search["policies"].items():
        free, reached = own["dense_free"], search["epochs_to_reach_lsh"][name]
        charged = (own["dense_charged"], own["dense_charged_by_flops"])
        label = f"{name} ({search['hindsight']})" if name == HINDSIGHT else name
        rows.append(
            (
                label,
                f"{free['epochs']:.0f}",
                _interval(free["test"], signed=False),
                "" if name == LSH else _interval(free["more_than_lsh"]),
                *(f"{c['epochs']:.0f}: {_interval(c['test'], signed=False)}" for c in charged),
                "not reached" if reached is None else f"{reached:.0f}",
            )
        )
    head = (
        "policy",
        "epochs",
        "test perplexity",
        "more than LSH",
        "the dense network charged: epochs, test",
        "... by FLOPs needed",
        "epochs to the mean of LSH",
    )
    assert FULL in search["policies"]
    return _table(head, rows)


def _baselines(baselines: Mapping[str, Any], setting: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            f"{own['weights']:,}",
            _each(map(str, own["best_epoch"])),
            _each(own["validation"]),
            _each(own["test"]),
        )
        for name, own in baselines.items()
    ]
    test = setting["candidates_test"]
    rows.append(
        ("candidates: best, median", "", "", "", f"{test['best']:.2f}, {test['median']:.2f}")
    )
    head = ("network", "live weights", "best epoch", "validation by seed", "test by seed")
    return _table(head, rows)


def _published(parts: Mapping[str, Any]) -> str:
    rows = []
    for part, own in parts.items():
        for name, score in own["scores"].items():
            rows.append(
                (
                    f"{part} ({own['trials']})",
                    name,
                    _interval(score["spearman"]),
                    _interval(score["less_loss"]) if name == "LS distance" else "",
                    *(_interval(score["regret"][n], signed=False) for n in ("1", "3")),
                    *(f"{own['chance_regret'][n][0]:.2f}" for n in ("1", "3")),
                )
            )
    head = (
        "trials",
        "score at epoch 3",
        "Spearman with the final",
        "less that of the loss",
        "regret, first",
        "regret, best of 3",
        "chance, first",
        "chance, best of 3",
    )
    return _table(head, rows)


def _live(live: Mapping[str, Any], searches: Mapping[str, Any]) -> str:
    names = {"ls": LSH, "loss": "loss, averaged"}
    rows = []
    for study, found in live.items():
        for own in found:
            replayed = searches[study]["policies"][names[own["metric"]]]["dense_free"]["test"]
            difference = own["largest_difference"]
            rows.append(
                (
                    study,
                    own["metric"],
                    f"{own['test_perplexity']:.2f}",
                    _interval(replayed, signed=False),
                    f"{own['epochs']}",
                    f"{own['candidates_in_the_table']}",
                    "" if difference is None else f"{difference:.5f}",
                )
            )
    head = (
        "study",
        "metric",
        "test perplexity of the winner",
        "replayed",
        "epochs",
        "candidates that the table has too",
        "largest difference of their nll",
    )
    return _table(head, rows)


def _each(values: Any) -> str:
    return ", ".join(value if isinstance(value, str) else f"{value:.2f}" for value in values)


def _interval(found: Sequence[float | None], *, signed: bool = True) -> str:
    value, low, high = found
    if value is None:
        return ""
    sign = "+" if signed else ""
    if low is None or high is None:
        return f"{value:{sign}.2f}"
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = "|".join(" --- " if column == 0 else " ---: " for column in range(len(head)))
    return "\n".join(
        [f"| {' | '.join(head)} |", f"|{line}|", *(f"| {' | '.join(row)} |" for row in rows)]
    )
