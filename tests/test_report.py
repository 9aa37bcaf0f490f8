import dataclasses
import html.parser
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from lsh_jax import plots
from lsh_jax.config import ConfigError, SearchConfig
from lsh_jax.report import headline, write_report
from lsh_jax.report.__main__ import main
from lsh_jax.report.formatting import MISSING, number
from lsh_jax.search.ledger import Ledger, Record, best_epoch

_VOID = {"meta", "br", "hr", "img", "link", "input"}
_DEATHS = ("magnitude", "set", "threshold", "global_magnitude")
_VERDICTS = {
    "beats the dense one": (-0.0512, -0.0613, -0.0409),
    "does not beat the dense one": (0.0312, 0.0209, 0.0413),
    "cannot be told apart": (0.0021, -0.0078, 0.0119),
}
_BEATS = _VERDICTS["beats the dense one"]


def make_run(
    run,
    *,
    candidates=8,
    finalists=2,
    e0=3,
    ei=3,
    final_epochs=24,
    layers=2,
    metric="ls",
    failed=None,  # trial -> (epoch, reason)
    repeats=(),  # (trial, original)
    dense_seeds=1,
    foreign=False,
    spectra=True,
    compared=_BEATS,
    settings=None,
    corpus=None,
    std_errors=False,
    hidden=60,
    topology=False,
):
    """A run directory as a search leaves it, with made-up numbers that look like one."""
    generator = np.random.default_rng(3)
    run.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(run / "trials.jsonl")
    arrays = {}

    def spectrum(epoch, shift):
        index = np.arange(1, hidden + 1) / hidden
        depth = 0.15 + 1.1 * np.exp(-epoch / 9)
        base = [-depth - (0.9 + 0.3 * n) * index**1.4 - 0.15 * n for n in range(layers)]
        noise = 0.004 * generator.standard_normal((layers, hidden))
        return -np.sort(-(np.array(base) + shift * (0.3 + index) + noise), axis=1)

    def nll(epoch, quality):
        return 4.35 + quality + 2.3 * math.exp(-epoch / 5) + 0.004 * generator.standard_normal()

    def record(trial, epoch, quality, exponents, reference, **rest):
        value = nll(epoch or 30, quality)  # a foreign network at its epoch 0 is a trained one
        distance = None
        if reference is not None:
            distance = float(np.linalg.norm(exponents - reference))
        if spectra:
            arrays[f"{trial}/{epoch}"] = exponents
        return Record(
            trial=trial,
            epoch=epoch,
            ls_distance=distance,
            ls_std_error=None if distance is None else 0.12 + 0.02 * generator.uniform(),
            floored=None if distance is None else 0,
            train_nll=value - 0.1,
            val_nll=value,
            val_perplexity=math.exp(value),
            wall_s=12.5,
            **rest,
        )

    dense = {}
    for index in range(dense_seeds):
        name = "dense" if index == 0 else f"dense-{index}"
        for epoch in [0] if foreign else range(1, final_epochs + 1):
            exponents = spectrum(30 if foreign else epoch, 0.05 * index)
            reference = dense.get(epoch) if index else None
            row = record(
                name,
                epoch,
                -0.05 if foreign else 0,
                exponents,
                reference,
                round=None,
                controls={},
                seed=index,
                nonzeros=374112,
            )
            ledger.append(row)
            dense.setdefault(epoch, exponents)

    order = np.random.default_rng(3).permutation(candidates)  # best trial last
    shifts = 0.06 + 0.5 * order / candidates
    alive, epochs, rounds, done = list(range(candidates)), e0, [], 0

    def advance(trial, first, last, number):
        for epoch in range(first + 1, last + 1):
            controls = {
                "sparsity": 0.67,
                "init": ["uniform", "er"][trial % 2],
                "death": _DEATHS[trial % 4],
                "growth": ["random", "gradient"][trial // 2 % 2],
                "redistribution": ["none", "magnitude", "nonzeros"][trial % 3],
                "death_rate": round(0.4 + 0.1 * (trial % 6), 1),
                "schedule": "cosine",
                "horizon": final_epochs,
                "update_every": 1.0,
            }
            reference = dense[0] if foreign else dense[epoch]
            quality = 0.25 * (shifts[trial] - 0.2) * (1 + 3 / epoch)
            exponents = spectrum(epoch, shifts[trial] * (0.5 + 1.5 / epoch))
            row = record(
                trial,
                epoch,
                quality,
                exponents,
                reference,
                round=number,
                controls=controls,
                seed=1000 + trial,
                churn=0.31 - 0.01 * epoch,
                nonzeros=123456,
            )
            score = {"ls": row.ls_distance, "loss": row.val_nll, "none": generator.uniform()}
            row = dataclasses.replace(row, score=score[metric])
            if topology:
                row = dataclasses.replace(row, topology=_topology(epoch))
            when, reason = (failed or {}).get(trial, (None, None))
            if when == epoch:
                row = Record(
                    trial, epoch, number, controls, 1000 + trial, status="failed", reason=reason
                )
                arrays.pop(f"{trial}/{epoch}", None)
            ledger.append(row)
            if when == epoch:
                return

    while True:
        for trial in alive:
            advance(trial, done, epochs, len(rounds))
        scores = {
            trial: found.score
            for trial in alive
            if (found := ledger.get(trial, epochs)) is not None and found.score is not None
        }
        finished = len(scores) <= finalists
        count = len(scores) if finished else max(-(-len(scores) // 2), finalists)
        kept = sorted(scores, key=lambda trial: (scores[trial], trial))[:count]
        rounds.append(
            {
                "round": len(rounds),
                "epochs": epochs,
                "entered": alive,
                "failed": [trial for trial in alive if trial not in scores],
                "survivors": kept,
            }
        )
        alive, done = kept, epochs
        if finished:
            break
        epochs += ei
    for trial in alive:
        advance(trial, done, final_epochs, len(rounds))
    for trial, original in repeats:
        source = ledger.get(original, e0)
        ledger.append(dataclasses.replace(source, trial=trial, duplicate_of=original, wall_s=0.0))

    bests = [ledger.get(trial, best_epoch(ledger.history(trial))) for trial in alive]
    best = min(bests, key=lambda row: row.val_nll)
    reference = ledger.history("dense")[-1]
    spent = sum(isinstance(row.trial, int) and row.duplicate_of is None for row in ledger.records())
    epochs_dense = 0 if foreign else dense_seeds * final_epochs
    full = candidates * final_epochs
    difference, low, high = compared
    result = {
        "dense": {
            "epochs": reference.epoch,
            "best_epoch": reference.epoch,
            "nonzeros": reference.nonzeros,
            "val_perplexity": reference.val_perplexity,
            "test_perplexity": 79.31,
        },
        "best": {
            "trial": best.trial,
            "epoch": best.epoch,
            "controls": best.controls,
            "sparsity": 0.67,
            "nonzeros": best.nonzeros,
            "val_perplexity": best.val_perplexity,
            "test_perplexity": 79.31 * math.exp(difference),
        },
        "beats_dense": {"difference": difference, "low": low, "high": high, "level": 0.95},
        "budget": {
            "epochs_spent": spent,
            "epochs_dense": epochs_dense,
            "epochs_full_search": full,
            "ratio": spent / full,
            "ratio_with_dense": (spent + epochs_dense) / full,
        },
        "rounds": rounds,
        "unigram_perplexity": 684.2,
        "metric": metric,
        "algo": "tpe",
        "seed": 0,
        "compilations": 41,
        "wall_s": 1234.5,
    }
    if topology:
        result["counts"] = _COUNTS
    (run / "result.json").write_text(json.dumps(result, allow_nan=False))
    if settings is None:
        search = SearchConfig(
            max_evals=candidates,
            e0=e0,
            ei=ei,
            finalists=finalists,
            final_epochs=final_epochs,
            metric=metric,
            dense_seeds=dense_seeds,
        )
        fingerprint = {
            "model": {"cell": "lstm"},
            "recipe": {"bptt": 10},
            "versions": {"jax": "0.10.2"},
            "seed": 0,
            "cores": 4,
        }
        settings = {
            "search": search.to_json(),
            "fingerprint": json.dumps(fingerprint),
            "preset": "quick",
            "data": "sotu",
            "model": {"cell": "lstm"},
            "train": {"bptt": 10},
            "spectrum": {"share": 0.3, "state": "hidden"},
            "device": "cpu",
            "command": ["python", "experiments/hypersearch.py", "--seed=0"],
        }
    if corpus is not None:
        settings = {**settings, "corpus": corpus}
    (run / "config.json").write_text(json.dumps(settings))
    if spectra:
        np.savez(run / "spectra.npz", **arrays)
    if std_errors:
        errors = {name: np.full_like(array, 0.02) for name, array in arrays.items()}
        np.savez(run / "spectra_std_error.npz", **errors)
    return run


_PARTS = [
    {"leaf": "decoder/W", "gate": None, "weights": 600, "live": 150, "explored": 300},
    {"leaf": "layers_0/U", "gate": "i", "weights": 100, "live": 20, "explored": 30},
    {"leaf": "layers_0/U", "gate": "o", "weights": 100, "live": 40, "explored": 70},
    {"leaf": "layers_0/W", "gate": "i", "weights": 200, "live": 80, "explored": 90},
    {"leaf": "layers_0/W", "gate": "o", "weights": 200, "live": 10, "explored": 40},
]
_COUNTS = {
    "dense": {
        "weights": 1200,
        "live": 1200,
        "unmasked": 50,
        "flops_forward": 2400,
        "flops_training": {"needed": 7200, "executed": 7200},
        "bytes": {"stored": 5000, "csr": 5000},
    },
    "best": {
        "weights": 1200,
        "live": 300,
        "unmasked": 50,
        "flops_forward": 600,
        "flops_training": {"needed": 1800, "executed": 7300},
        "bytes": {"stored": 1550, "csr": 2900},
        "parts": _PARTS,
    },
}


def _topology(epoch):
    names = [part["leaf"] + ("/" + part["gate"] if part["gate"] else "") for part in _PARTS]
    shares = [part["live"] / part["weights"] for part in _PARTS]
    density = {
        name: share + 0.05 * math.exp(-epoch) for name, share in zip(names, shares, strict=True)
    }
    explored = 0.25 + 0.4 * (1 - math.exp(-epoch / 6))
    return {"density": density, "overlap": 0.9 - 0.6 / epoch, "explored": round(explored, 6)}


class _Balance(html.parser.HTMLParser):
    """Fails on a tag that is closed out of order or never; gathers ids, cells and labels."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.labels, self.rows = [], [], [], []
        self.scripts = []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "script":
            self.scripts.append(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "svg":
            assert attributes["role"] == "img"
            self.labels.append(attributes["aria-label"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def _check_page(run):
    """What holds for every report; returns the page as parsed and the Markdown."""
    page = (run / "report.html").read_text(encoding="utf-8")
    parsed = _Balance()
    parsed.feed(page)
    assert not parsed.open
    assert parsed.scripts == [{"type": "application/json", "id": "run"}, {}]
    assert len(parsed.ids) == len(set(parsed.ids))
    assert len(parsed.labels) == len(set(parsed.labels)) >= 2
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(parsed.ids)
    for reference in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)""", page):
        assert "".join(reference).startswith("#")
    assert "@import" not in page and "http:" not in page and "https:" not in page
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"the training nll is nan", "", page))
    return parsed, (run / "report.md").read_text(encoding="utf-8")


def _row(parsed, trial):
    """The row of a trial in the table of trials, by column."""
    start = next(n for n, row in enumerate(parsed.rows) if "outcome" in row)
    (row,) = (row for row in parsed.rows[start + 1 :] if row[0] == str(trial))
    return dict(zip(parsed.rows[start], row, strict=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A search with everything that can happen to a trial."""
    path = make_run(
        tmp_path_factory.mktemp("runs") / "quick-ü0",
        failed={
            5: (2, 'the training nll is nan <script>alert("x")</script> | a & b\nnext'),
            6: (5, "FloatingPointError"),
        },
        repeats=[(8, 1)],
        dense_seeds=2,
        layers=1,
    )
    write_report(path)
    return path


@pytest.fixture(scope="module")
def parsed(run):
    return _check_page(run)[0]


@pytest.mark.parametrize(("verdict", "compared"), _VERDICTS.items())
def test_headline_says_whether_the_winner_beats_the_dense_network(verdict, compared):
    difference, low, high = compared
    result = {
        "best": {"test_perplexity": 75.349},
        "dense": {"test_perplexity": 79.31},
        "beats_dense": {"difference": difference, "low": low, "high": high},
    }
    sentence = headline(result)
    assert verdict in sentence
    assert "75.35" in sentence and "79.31" in sentence and "95 %" in sentence
    for value in compared:
        assert f"{value:+.4f}".replace("-", "\N{MINUS SIGN}") in sentence


def test_page_and_markdown_open_with_the_headline(run):
    sentence = headline(json.loads((run / "result.json").read_text()))
    page, markdown = ((run / name).read_text() for name in ("report.html", "report.md"))
    assert "beats the dense one" in sentence
    assert f'<p class="lead">{sentence}</p>' in page
    assert f"**{sentence}**" in markdown


def test_page_is_balanced_self_contained_and_says_what_its_pictures_show(run):
    _check_page(run)


def test_report_is_the_same_when_written_again(run):
    before = [(run / name).read_bytes() for name in ("report.html", "report.md")]
    write_report(run)
    assert [(run / name).read_bytes() for name in ("report.html", "report.md")] == before


def test_hostile_reason_is_shown_as_text(run, parsed):
    assert _row(parsed, 5)["status"] == (
        'failed: the training nll is nan <script>alert("x")</script> | a & b\nnext'
    )
    markdown = (run / "report.md").read_text()
    assert r"\<script\>" in markdown and not re.search(r"(?<!\\)<script", markdown)
    assert r"\| a \& b next" in markdown  # neither ends the cell nor the line


def test_numbers_of_the_trials_table_are_those_of_the_ledger(run, parsed):
    ledger = Ledger(run / "trials.jsonl")
    for trial in (0, 1, 3, 4, 7, "dense-1"):
        history = ledger.history(trial)
        last, row = history[-1], _row(parsed, trial)
        assert row["last epoch"] == str(last.epoch)
        distance, error = row["LS dist. ± s.e."].split(" ± ")
        assert float(distance) == pytest.approx(last.ls_distance, rel=1e-3)
        assert float(error) == pytest.approx(last.ls_std_error, rel=0.05)
        assert float(row["val. ppl"]) == pytest.approx(last.val_perplexity, rel=1e-3)
        best, epoch = row["best (epoch)"].removesuffix(")").split(" (")
        assert int(epoch) == best_epoch(history)
        assert float(best) == pytest.approx(min(r.val_perplexity for r in history), rel=1e-3)
        assert int(row["live"].replace(",", "")) == last.nonzeros
    row = _row(parsed, 4)
    assert (row["death"], row["death rate"], row["init"]) == ("magnitude", "0.8", "uniform")


def test_outcomes_tell_winner_finalist_cut_failed_and_repeated(run, parsed):
    result = json.loads((run / "result.json").read_text())
    winner, rounds = result["best"]["trial"], result["rounds"]
    (other,) = set(rounds[-1]["survivors"]) - {winner}
    assert _row(parsed, winner)["outcome"] == "winner"
    assert _row(parsed, other)["outcome"] == "finalist"
    (cut,) = set(rounds[1]["entered"]) - set(rounds[1]["survivors"]) - {6}
    assert _row(parsed, cut)["outcome"] == "cut after round 1"
    assert _row(parsed, 5)["outcome"] == "failed in the pool"
    assert _row(parsed, 6)["outcome"] == "failed in round 1"
    assert _row(parsed, 8)["outcome"] == "repeats trial 1"
    start = next(n for n, row in enumerate(parsed.rows) if "outcome" in row)
    trials = [row[0] for row in parsed.rows[start + 1 :]]
    assert trials[:2] == [str(winner), str(other)]


def test_rounds_table_counts_who_entered_survived_and_failed(run, parsed):
    start = next(n for n, row in enumerate(parsed.rows) if "survived" in row)
    entries = json.loads((run / "result.json").read_text())["rounds"]
    for entry, row in zip(entries, parsed.rows[start + 1 :], strict=False):
        counts = [len(entry[name]) for name in ("entered", "survivors", "failed")]
        assert row[1:5] == [str(entry["epochs"]), *map(str, counts)]
    finals = parsed.rows[start + 1 + len(entries)]
    assert finals[:5] == ["finals", "24", "2", "1", "0"]


def test_correlation_leaves_failed_and_repeated_trials_out(run):
    page = (run / "report.html").read_text()
    assert "Perplexity at epoch 3, 7 candidates: Spearman rank correlation" in page


def test_budget_and_noise_floor_are_stated(run):
    page = (run / "report.html").read_text()
    budget = json.loads((run / "result.json").read_text())["budget"]
    ledger = Ledger(run / "trials.jsonl")
    assert f"{100 * budget['ratio']:.1f} %" in page
    assert f"{100 * budget['ratio_with_dense']:.1f} %" in page
    assert f"other seeds lie {ledger.get('dense-1', 3).ls_distance:.4f} from" in page
    assert "python experiments/hypersearch.py --seed=0" in page
    assert "fingerprint.versions.jax" in page


def test_foreign_dense_network_without_history_and_one_finalist(tmp_path):
    run = make_run(tmp_path / "run", candidates=3, finalists=1, foreign=True, layers=1, settings={})
    write_report(run)
    parsed, markdown = _check_page(run)
    assert "3 candidates: too few for a rank correlation" in markdown
    assert "Warning" not in markdown
    row = _row(parsed, "dense")
    assert row["outcome"] == "given, not trained here"
    assert row["last epoch"] == MISSING and "(0)" not in row["best (epoch)"]
    result = next(row for row in parsed.rows if row[0] == "dense")
    assert result[-1] == "given, not trained here"
    assert "Here it is the distance to the dense network that was given" in markdown
    assert "its epochs are not counted" in markdown and "epoch 0" not in markdown


def test_run_without_spectra_scored_by_the_loss_above_the_unigram_perplexity(tmp_path):
    run = make_run(
        tmp_path / "run",
        candidates=3,
        metric="loss",
        spectra=False,
        compared=_VERDICTS["does not beat the dense one"],
    )
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "unigram_perplexity": 100.0}))
    write_report(run)
    parsed, markdown = _check_page(run)
    assert "does not beat the dense one" in markdown
    assert "The run holds no spectra" in markdown
    assert "> **Warning.** 3 of 3 candidates were scored while" in markdown
    last = Ledger(run / "trials.jsonl").history(0)[-1]
    assert float(_row(parsed, 0)["score"]) == pytest.approx(last.val_nll, rel=1e-3)


def test_noise_is_2_8_standard_errors_and_leaves_the_chance_of_training_out(tmp_path):
    run = make_run(tmp_path / "run", layers=1)
    write_report(run)
    markdown = _check_page(run)[1]
    ledger = Ledger(run / "trials.jsonl")
    error = np.median([ledger.get(trial, 3).ls_std_error for trial in range(8)])
    assert f"must differ by 2.8 of it, {number(2 * math.sqrt(2) * error, 2)}, to be" in markdown
    assert "That covers the estimation of the spectra only; the chance of training" in markdown
    assert "two distances that differ by less cannot be ranked" in markdown
    assert "main noise floor" not in markdown


def test_distance_between_dense_seeds_is_the_main_noise_floor(run):
    markdown = (run / "report.md").read_text()
    ledger = Ledger(run / "trials.jsonl")
    seed = ledger.get("dense-1", 3).ls_distance
    distances = [ledger.get(trial, 3).ls_distance for trial in (0, 1, 2, 3, 4, 6, 7)]
    near = sum(distance <= seed for distance in distances)
    assert "this is the main noise floor, for it holds the chance of training" in markdown
    assert f"({near} of 7 are)" in markdown
    assert markdown.index("main noise floor") < markdown.index("median standard error of a dist")


def _with_perplexities(run, *, rising):
    """Rewrites the ledger of a run so that perplexity rises, or falls, with the first distance."""
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    first = {row["trial"]: row["ls_distance"] for row in lines if row["epoch"] == 3}
    for row in lines:
        if isinstance(row["trial"], int):
            row["val_perplexity"] = 100 + (1 if rising else -1) * first[row["trial"]]
    (run / "trials.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))


def test_few_candidates_get_an_exact_p_value_instead_of_an_interval(tmp_path):
    run = make_run(tmp_path / "run", candidates=4, layers=1)
    _with_perplexities(run, rising=False)
    write_report(run)
    markdown = _check_page(run)[1]
    # 2 of the 4! orders are as far from 0: the one that falls and the one that rises
    assert "correlation \N{MINUS SIGN}1.00, exact two-sided permutation p value 0.083" in markdown
    assert "Here the nearer spectra went with the HIGHER perplexity" in markdown
    assert "decide nothing" in markdown and "bootstrap interval" not in markdown


def test_eight_candidates_get_an_interval_and_the_direction(tmp_path):
    run = make_run(tmp_path / "run", candidates=8, layers=1)
    _with_perplexities(run, rising=True)
    write_report(run)
    markdown = _check_page(run)[1]
    assert "Perplexity at epoch 3, 8 candidates: Spearman rank correlation +1.00, 95 %" in markdown
    assert "Here the nearer spectra went with the lower perplexity" in markdown


def test_an_interval_that_holds_0_is_not_said_to_show_that_there_is_nothing(tmp_path):
    run = make_run(tmp_path / "run", candidates=8, layers=1)
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    values = dict(zip(range(8), (4, 1, 7, 2, 6, 3, 0, 5), strict=True))
    for row in lines:
        if isinstance(row["trial"], int):
            row["val_perplexity"], row["ls_distance"] = 100 + values[row["trial"]], row["trial"] + 1
    (run / "trials.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    write_report(run)
    markdown = (run / "report.md").read_text()
    assert "The interval holds 0: this does not settle whether there is a connection." in markdown
    assert "shows no connection" not in markdown


def test_rounds_say_whom_the_validation_loss_would_have_kept(run, tmp_path):
    pool = json.loads((run / "result.json").read_text())["rounds"][0]
    ledger = Ledger(run / "trials.jsonl")
    losses = {trial: ledger.get(trial, 3).val_nll for trial in (0, 1, 2, 3, 4, 6, 7)}
    chosen = sorted(losses, key=losses.get)[: len(pool["survivors"])]
    same = len(set(chosen) & set(pool["survivors"]))
    kept = ", ".join(map(str, pool["survivors"]))
    markdown = (run / "report.md").read_text()
    assert f"kept trials {kept}; the validation loss of the same epoch would have" in markdown
    listed = ", ".join(map(str, chosen))
    assert f"kept {listed}: {same} of {len(chosen)} are the same" in markdown
    by_loss = make_run(tmp_path / "run", metric="loss", layers=1)
    write_report(by_loss)
    assert "would have kept" not in (by_loss / "report.md").read_text()


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.13, "13 % of the test tokens are <unk>, which makes perplexities lower"),
        (0.0, "No test token is <unk>."),
    ],
)
def test_result_states_the_conditions_of_the_perplexities(tmp_path, share, words):
    corpus = {
        "train_tokens": 40000,
        "validation_tokens": 15000,
        "test_tokens": 15001,
        "types": 2000,
        "unknown_share": {"train": 0.1, "validation": 0.12, "test": share},
    }
    run = make_run(tmp_path / "run", candidates=2, layers=1, corpus=corpus)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "unigram_test_perplexity": 655.1}))
    write_report(run)
    parsed, markdown = _check_page(run)
    assert "Trained on 40,000 tokens, 2,000 types" in markdown
    assert words in markdown.replace("\\", "")
    assert "15,000 validation tokens and 15,001 test tokens" in markdown
    assert ["unigram", "684.2", "655.1", MISSING] in parsed.rows


def test_ls_distance_is_defined_before_it_is_used(run):
    markdown = (run / "report.md").read_text().partition("## Lyapunov spectra")[2]
    first = markdown.partition("LS distance")[2]
    assert first.startswith(" of two networks is the l2 norm of the difference")
    assert "the leading 30 % of each layer's exponents" in first
    assert "those of the hidden state" in first


def test_trials_table_shows_what_matters_first_and_no_column_twice(tmp_path, parsed):
    run = make_run(tmp_path / "run", candidates=3, layers=1)
    write_report(run)
    (columns,) = (row for row in _check_page(run)[0].rows if "outcome" in row)
    assert columns[:3] == ["trial", "outcome", "val. ppl"]
    assert not {"score", "status", "floored"} & set(columns)
    (columns,) = (row for row in parsed.rows if "outcome" in row)
    assert columns[-1] == "status"  # there is a failure to tell


def test_each_spectra_picture_has_the_dense_network_of_its_own_epoch_solid(tmp_path, monkeypatch):
    drawn = []
    plot = plots.plot_spectra

    def spy(title, dense, *args, errors, limits):
        drawn.append((title, list(dense), sorted(errors), limits))
        return plot(title, dense, *args, errors=errors, limits=limits)

    monkeypatch.setattr(plots, "plot_spectra", spy)
    write_report(make_run(tmp_path / "run", candidates=3, std_errors=True))
    assert [title for title, *_ in drawn] == [
        "Layer 1, after epoch 3",
        "Layer 1, finalists after epoch 24",
        "Layer 2, after epoch 3",
        "Layer 2, finalists after epoch 24",
    ]
    early, late = "dense, epoch 3", "dense, epoch 24"
    assert [dense for _, dense, *_ in drawn] == [[early, late], [late, early]] * 2
    assert [errors for *_, errors, _ in drawn[:2]] == [[early, "winner"], [late, "winner"]]
    limits = [limits for *_, limits in drawn]
    assert limits[0] == limits[1] != limits[2] == limits[3]


def test_settings_do_not_repeat_what_the_fingerprint_holds_again(parsed):
    names = [row[0] for row in parsed.rows]
    assert {"fingerprint.versions.jax", "fingerprint.cores", "train.bptt"} <= set(names)
    assert not {"fingerprint.model.cell", "fingerprint.recipe.bptt", "fingerprint.seed"} & set(
        names
    )


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda run: (run / "config.json").unlink(), "no config.json"),
        (lambda run: (run / "result.json").write_text("{"), "result.json cannot be read"),
        (lambda run: (run / "result.json").write_text('{"best": {}}'), "lacks dense, beats_dense"),
        (lambda run: (run / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda run: (run / "trials.jsonl").unlink(), "no trials.jsonl"),
    ],
)
def test_folder_that_is_no_run_gives_one_clear_error(tmp_path, capsys, damage, complaint):
    run = make_run(tmp_path / "run", candidates=2, layers=1)
    damage(run)
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        write_report(run)
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not (run / "report.html").exists()


def test_module_runs_as_a_command_and_exits_with_2_where_there_is_no_run(tmp_path):
    command = [sys.executable, "-m", "lsh_jax.report", str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: `run` must be the directory of a search")
    assert done.stderr.rstrip().endswith("missing', which does not exist.")


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A run with counts, and its page as parsed and as Markdown."""
    run = make_run(tmp_path_factory.mktemp("runs") / "counted", candidates=3, topology=True)
    (run / "model").mkdir()
    (run / "model" / "weights.safetensors").write_bytes(bytes(1700))
    write_report(run)
    return run, *_check_page(run)


def test_size_and_cost_compare_the_winner_with_the_dense_network(counted):
    _, parsed, markdown = counted
    rows = {row[0]: row[1:] for row in parsed.rows}
    assert rows["live weights"] == ["1,200", "300", "25.0 %"]
    assert rows["FLOPs a token, forward"] == ["2,400", "600", "25.0 %"]
    assert rows["FLOPs a token, training: the method's need"] == ["7,200", "1,800", "25.0 %"]
    assert rows["FLOPs a token, training: executed here"] == ["7,200", "7,300", "101.4 %"]
    assert rows["bytes stored: values and bit masks"] == ["5,000", "1,550", "31.0 %"]
    assert rows["bytes of model/weights.safetensors"] == [MISSING, "1,700", MISSING]
    assert "What is executed here is dense" in markdown


def test_densities_are_given_by_leaf_layer_and_gate(counted):
    parsed = counted[1]
    start = next(n for n, row in enumerate(parsed.rows) if row[0] == "leaf")
    assert parsed.rows[start : start + 6] == [
        ["leaf", "weights", "live", "explored", "density", "i", "o"],
        ["decoder/W", "600", "150", "0.500", "0.250", MISSING, MISSING],
        ["layers_0, all", "600", "150", "0.383", "0.250", "0.333", "0.167"],
        ["layers_0/U", "200", "60", "0.500", "0.300", "0.200", "0.400"],
        ["layers_0/W", "400", "90", "0.325", "0.225", "0.400", "0.050"],
        ["whole network", "1,200", "300", "0.442", "0.250", "0.333", "0.167"],
    ]


def test_masks_over_training_are_drawn_and_told(counted):
    run, parsed, markdown = counted
    assert "Density of every leaf and gate of the winner by epoch" in parsed.labels
    for words in ("kept from the epoch before", "that have ever lived"):
        assert any(words in label and "2 finalists" in label for label in parsed.labels)
    winner = json.loads((run / "result.json").read_text())["best"]["trial"]
    last = Ledger(run / "trials.jsonl").history(winner)[-1].topology
    assert f"By epoch 24 the winner had tried {100 * last['explored']:.1f} %" in markdown
    assert "masks that never move would have tried 25.0 %" in markdown


def test_counts_without_records_of_masks_have_the_tables_but_no_pictures(tmp_path, counted):
    run = make_run(tmp_path / "run", candidates=2, layers=1)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "counts": _COUNTS}))
    write_report(run)
    parsed, markdown = _check_page(run)
    assert ["decoder/W", "600", "150", "0.500", "0.250", MISSING, MISSING] in parsed.rows
    assert not any("finalist" in label and "lived" in label for label in parsed.labels)
    assert "bytes of model/weights.safetensors" not in markdown


def test_run_of_an_older_version_has_no_sections_on_masks(run):
    markdown = (run / "report.md").read_text()
    assert "Size and cost of the networks" not in markdown
    assert "Where the live weights are" not in markdown


def test_network_of_many_leaves_has_as_many_panels_as_there_is_room_for(tmp_path, monkeypatch):
    drawn = []
    plot = plots.plot_density

    def spy(epochs, panels, whole):
        drawn.append(panels)
        return plot(epochs, panels, whole)

    monkeypatch.setattr(plots, "plot_density", spy)
    run = make_run(tmp_path / "run", candidates=2, layers=1, topology=True)
    result = json.loads((run / "result.json").read_text())
    many = [{**_PARTS[1], "leaf": f"layers_0/R_{n}"} for n in range(20)]
    result["counts"]["best"]["parts"] = [*many, _PARTS[0]]
    (run / "result.json").write_text(json.dumps(result))
    write_report(run)
    assert list(drawn[0])[:2] == ["layers_0/R_0", "layers_0/R_1"] and len(drawn[0]) == 16
    assert "no room for the last 5 leaves" in _check_page(run)[1]


def test_the_tuning_of_the_dense_network_is_said_and_charged(tmp_path):
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["dense"] |= {"hyper": {"learning_rate": 20.0, "clip": "inf"}, "tuning_trials": 7}
    result["budget"] |= {"epochs_tuning": 31}
    (run / "result.json").write_text(json.dumps(result))
    write_report(run)
    markdown = (run / "report.md").read_text()
    assert "tuned first, over 7 trials in rounds as the candidates', judged by" in markdown
    assert "trained to epoch 24, the one with the lowest validation nll at its best" in markdown
    assert "it chose learning rate 20, clip inf. The other trials' 31 epochs count" in markdown
    assert "24 epochs of the dense networks and the 31 of the other trials of their" in markdown
    assert "Tuning is the price of a fair comparison" in markdown
    assert "needs no dense network" not in markdown
    untuned = make_run(tmp_path / "untuned")
    write_report(untuned)
    assert "needs no dense network to judge" in (untuned / "report.md").read_text()
    assert "tun" not in (untuned / "report.md").read_text().replace("untuned", "")


def _set_controls(run, changes, space=None):
    """Gives trials of a run other controls, by trial, and the settings another space."""
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    for line in lines:
        if line["controls"]:
            line["controls"] |= changes(line["trial"])
    (run / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = json.loads((run / "result.json").read_text())
    result["best"]["controls"] |= changes(result["best"]["trial"])
    (run / "result.json").write_text(json.dumps(result))
    config = json.loads((run / "config.json").read_text())
    config["search"]["space"] |= space or {}
    (run / "config.json").write_text(json.dumps(config))
    write_report(run)
    return (run / "report.md").read_text()


def _facts_of_the_winner(markdown):
    _, _, after = markdown.partition("of those that were searched:")
    facts = after.strip().split("\n\n")[0].splitlines()
    return dict(line.removeprefix("- ").split(": ") for line in facts)


def test_a_static_winner_is_shown_without_what_rules_an_update(tmp_path):
    run = make_run(tmp_path / "run")
    winner = json.loads((run / "result.json").read_text())["best"]["trial"]
    markdown = _set_controls(
        run,
        lambda trial: {"update_every": "inf" if trial == winner else 1.0, "rate_floor": 0.005},
        {"update_every": [1.0, "inf"]},
    )
    assert set(_facts_of_the_winner(markdown)) == {"init", "update every"}
    assert not re.search("Fixed for all candidates: .*(schedule|rate floor)", markdown)
    table = [row.split(" | ") for row in markdown.splitlines() if "| trial |" in row]
    (names,) = table
    (own,) = (
        row.split(" | ") for row in markdown.splitlines() if row.startswith(f"| {winner} | winner")
    )
    cells = dict(zip(names, own, strict=True))
    assert cells["death"] == cells["growth"] == cells["death rate"] == MISSING
    assert cells["init"] in ("uniform", "er")


def test_only_controls_with_a_choice_are_cards_and_the_rest_is_small_print(tmp_path):
    markdown = _set_controls(
        make_run(tmp_path / "run"),
        lambda trial: {"schedule": "constant", "rate_floor": 0.005, "threshold_init": 0.0},
        {"init": ["uniform"]},
    )
    facts = _facts_of_the_winner(markdown)
    assert set(facts) <= {"death", "growth", "redistribution", "death rate"}
    (fixed,) = re.findall("Fixed for all candidates: (.*)", markdown)
    assert "schedule constant" in fixed and "init " in fixed
    assert "rate floor" not in fixed  # no schedule falls to it
    assert "horizon" not in fixed and "sparsity" not in fixed


def test_sign_flip_has_no_death_rate_to_show(tmp_path):
    markdown = _set_controls(
        make_run(tmp_path / "run"), lambda trial: {"death": "sign_flip"}, {"death": ["sign_flip"]}
    )
    assert "death rate" not in _facts_of_the_winner(markdown)
    (names,) = (row for row in markdown.splitlines() if "| trial |" in row)
    assert "death rate" not in names and "| death |" in names


@pytest.mark.parametrize("churn", [0.0, 0.1])
def test_gates_are_said_to_have_drawn_weights_only_where_masks_have_moved(tmp_path, churn):
    run = make_run(tmp_path / "run", topology=True)
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(line | {"churn": churn}) + "\n" for line in lines)
    (run / "trials.jsonl").write_text(text)
    write_report(run)
    markdown = (run / "report.md").read_text()
    assert ("that rises has drawn weights from others that fall" in markdown) == (churn > 0)
    assert "the wide grey line is the whole network." in markdown
