"""The sections of a report that are words and tables: result, rounds, settings."""

import contextlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from lsh_jax import plots
from lsh_jax.report.controls import winner_controls
from lsh_jax.report.cost import tuning_text
from lsh_jax.report.formatting import (
    MISSING,
    number,
    percent,
    plural,
    setting,
    signed,
)
from lsh_jax.report.measured import of_baseline, of_network
from lsh_jax.report.page import Block, Code, Details, Facts, Picture, Pictures, Section, Table, Text
from lsh_jax.report.run import GIVEN, Run, all_rounds, at_epoch, given, round_bars, round_name
from lsh_jax.report.svg import to_svg
from lsh_jax.report.values import is_number, load_json
from lsh_jax.search.measure import Measure, read_measure

SCORES = {
    "ls": "the LS distance to the dense network",
    "loss": "the validation nll",
    "death-rate": "minus the death rate",
    "none": "a random number",
}
_MOST_NATS = 690  # of which exp is a number


def subtitle(run: Run) -> str:
    """What was searched, in one line."""
    result, search = run.result, run.search
    parts = [plural(len(run.candidates), "candidate")]
    parts += [
        f"{name} {run.config[name]}" for name in ("task", "preset", "data") if name in run.config
    ]
    if "sparsity" in search:
        parts.append(f"target sparsity {percent(search['sparsity'])}")
    parts += [f"{name} {result[name]}" for name in ("metric", "algo", "seed") if name in result]
    return " · ".join(parts)


def result_section(run: Run) -> Section:
    """The winner against the dense network."""
    result, best, dense = run.result, run.result["best"], run.result["dense"]
    measure = run.measure
    of_all = f" of {dense['nonzeros']:,}" if dense.get("nonzeros") else ""
    facts = [
        ("winner", f"trial {best['trial']}"),
        (f"test {measure.name}", number(of_network(measure, best, "test"))),
        (f"change of test {measure.name}", _change(run)),
        ("sparsity", percent(best["sparsity"])),
        (f"live weights{of_all}", f"{best['nonzeros']:,}"),
    ]
    epoch = GIVEN if given(run) else _epoch(dense.get("best_epoch", dense["epochs"]))
    rows = [
        ["winner", *_values(measure, best), _epoch(best.get("epoch"))],
        ["dense", *_values(measure, dense), epoch],
    ]
    known = [of_baseline(measure, result, split) for split in ("validation", "test")]
    if any(value is not None for value in known):
        rows.append([measure.baseline, *map(number, known), MISSING])
    data = measure.data
    note = (
        f"The interval is of the paired difference on blocks of the test {data}. It covers the "
        f"choice of {data}, not the chance of training: the two networks were trained once each, "
        "and other seeds could come out otherwise. The winner is the finalist with the lowest "
        f"validation {measure.name}; the test {data} was read once, after that."
    )
    blocks: list[Block] = [
        Text(headline(result), "lead"),
        *(Text(text, "warning") for text in _warnings(run)),
        Facts(facts),
        Table(("network", f"#validation {measure.name}", f"#test {measure.name}", "#epoch"), rows),
        *(Text(text) for text in (*_conditions(run), *tuning_text(run))),
        Text(note, "note"),
        *winner_controls(run),
    ]
    return Section("Result", blocks)


def _conditions(run: Run) -> Iterator[str]:
    """What the perplexities were measured on, for they mean nothing without it."""
    corpus = run.config.get("corpus")
    if not isinstance(corpus, dict):
        return
    sizes = [
        f"{corpus[name]:,} {words}"
        for name, words in (("train_tokens", "tokens"), ("types", "types"))
        if isinstance(corpus.get(name), int)
    ]
    tested = [
        f"{corpus[f'{split}_tokens']:,} {split} tokens"
        for split in ("validation", "test")
        if isinstance(corpus.get(f"{split}_tokens"), int)
    ]
    text = f"Trained on {', '.join(sizes)}; measured on {' and '.join(tested) or 'the rest'}."
    shares = corpus.get("unknown_share")
    if isinstance(shares, dict) and is_number(share := shares.get("test")):
        text += f" {number(100 * share, 2) if share else 'No'}{' %' if share else ''}"
        text += " of the test tokens are <unk>" if share else " test token is <unk>"
        if share:
            text += (
                ", which makes perplexities lower than they would be with the full vocabulary: "
                "compare them with others of this vocabulary only"
            )
        text += "."
    if sizes:
        yield text


def headline(result: Mapping[str, Any]) -> str:
    """The winner against the dense network in one sentence, whichever way it went.

    Args:
      result: the content of result.json.
    """
    compared, best, dense = result["beats_dense"], result["best"], result["dense"]
    measure = read_measure(result)
    if compared["high"] < 0:
        verdict = "The pruned network beats the dense one"
    elif compared["low"] > 0:
        verdict = "The pruned network does not beat the dense one"
    else:
        verdict = "The pruned network and the dense one cannot be told apart"
    level = percent(compared.get("level", 0.95), 0)
    own, other = (number(of_network(measure, network, "test")) for network in (best, dense))
    return (
        f"{verdict}: test {measure.name} {own} against {other}, a difference of "
        f"{signed(compared['difference'])} {measure.unit} ({level} interval "
        f"{signed(compared['low'])} to {signed(compared['high'])}; below 0 the pruned network is "
        f"better).{_squares(measure, compared)}"
    )


def _squares(measure: Measure, compared: Mapping[str, float]) -> str:
    """Of an rms error, the difference and its interval as mean squared errors.

    The nll of `gaussian_nll` is the mean squared error / (2 scale^2) and a constant, so that
    differences of the one are exact multiples of the other's; of rms errors they are not.
    """
    if measure.kind != "rms":
        return ""
    factor = 2.0 * measure.scale * measure.scale
    values = [factor * compared[name] for name in ("difference", "low", "high")]
    if not all(map(math.isfinite, values)):
        return ""
    own, low, high = (f"{'+' * (value > 0)}{number(value)}" for value in values)
    return f" In mean squared error that is {own} ({low} to {high})."


def _values(measure: Measure, network: dict[str, Any]) -> list[str]:
    return [number(of_network(measure, network, split)) for split in ("val", "test")]


def _change(run: Run) -> str:
    """From the dense network to the winner on test: in percent, or in nats of an nll."""
    measure, change = run.measure, run.result["beats_dense"]["difference"]
    if not measure.has_ratios:
        return signed(change)
    if measure.kind == "perplexity":
        return f"{signed(100 * math.expm1(change), 1)} %" if change < _MOST_NATS else MISSING
    best, dense = (of_network(measure, run.result[name], "test") for name in ("best", "dense"))
    return f"{signed(100 * (best / dense - 1), 1)} %" if dense and best is not None else MISSING


def _epoch(epoch: int | None) -> str:
    return MISSING if epoch is None else str(epoch)


def _warnings(run: Run) -> Iterator[str]:
    measure = run.measure
    baseline = of_baseline(measure, run.result, "validation")
    scored_at = {entry["epochs"] for entry in run.rounds} or {run.first_epoch}
    early = {
        record.trial
        for history in run.candidates.values()
        for record in history
        if baseline is not None
        and record.epoch in scored_at
        and record.score is not None
        and ((value := measure.of_record(record)) is None or value > baseline)
    }
    if early:
        yield (
            f"{len(early)} of {plural(len(run.candidates), 'candidate')} were scored while their "
            f"validation {measure.name} was still above the {measure.baseline} {measure.name}, "
            f"{number(baseline)}: they had not begun to learn, and their scores say little. Raise "
            "--e0."
        )
    dense = of_network(measure, run.result["dense"], "val")
    if baseline is not None and (dense is None or dense > baseline):
        yield (
            f"The dense network itself is no better than the {measure.baseline} predictor: "
            "nearness to it is no merit. Train it longer, or change the recipe."
        )


def rounds_section(run: Run) -> Section:
    """Who went on in each round of halving."""
    rows = []
    for entry in all_rounds(run):
        entered, kept, failed = entry["entered"], entry["survivors"], entry["failed"]
        name = round_name(run, entry["round"]).removeprefix("the ")
        trials = ", ".join(map(str, kept))
        numbers = [str(len(trials_)) for trials_ in (entered, kept, failed)]
        rows.append([name, str(entry["epochs"]), *numbers, trials])
    if not rows:
        return Section("Rounds", [Text("result.json does not tell the rounds.")])
    caption = (
        f"Each round trains what entered it a few epochs more and keeps those for which "
        f"{_score(run)} is lowest; the finals keep the one with the lowest validation "
        f"{run.measure.name}."
    )
    blocks: list[Block] = [Text(text) for text in _by_loss(run)]
    columns = ("round", "#epochs in all", "#entered", "#survived", "#failed", "trials that went on")
    alt = "Bars: how many candidates went on, were cut or failed in each round"
    picture = Picture(to_svg(plots.plot_rounds(round_bars(run)), alt), alt)
    return Section("Rounds", [Table(columns, rows), *blocks, Pictures([picture], caption)])


def _by_loss(run: Run) -> Iterator[str]:
    """Whom the validation loss would have kept of the pool, beside those that were kept."""
    pool = run.rounds[0]
    if run.result.get("metric", "loss") == "loss":
        return
    entered = {record.trial: record for record in at_epoch(run, pool["epochs"])}
    losses = {
        trial: entered[trial].val_nll
        for trial in pool["entered"]
        if trial in entered and entered[trial].val_nll is not None
    }
    kept, order = pool["survivors"], sorted(losses, key=lambda trial: (losses[trial], trial))
    if not order:
        return
    chosen = order[: len(kept)]
    same = len(set(chosen) & set(kept))
    text = (
        f"Of the pool, after epoch {pool['epochs']}, {_score(run)} kept trials "
        f"{', '.join(map(str, kept))}; the validation loss of the same epoch would have kept "
        f"{', '.join(map(str, chosen))}: {same} of {len(kept)} are the same."
    )
    if run.winner in losses:
        place = order.index(run.winner) + 1
        fate = "kept too" if run.winner in chosen else "cut"
        text += (
            f" The winner, trial {run.winner}, was number {place} of {len(order)} by that loss, "
            f"and would have been {fate}."
        )
    yield text


def _score(run: Run) -> str:
    return SCORES.get(run.result.get("metric", ""), "the score")


def settings_section(run: Run) -> Section:
    """How to load the model, if there is one yet, repeat the run, and every setting."""
    command = run.config.get("command")
    blocks: list[Block] = []
    if run.winner is not None:
        folder = f"{run.name}/model"
        if "model" in run.config:  # a language model; a task of one's own has a loader of its own
            code = f"import lsh_jax\n\nmodel = lsh_jax.load_model({json.dumps(folder)})"
            text = "Load the pruned network, from the folder that holds this run:"
            blocks += [Text(text), Code(code)]
        else:
            blocks.append(Text(f"The pruned network is in {folder}."))
    if command and isinstance(command, str | list):
        text = command if isinstance(command, str) else shlex.join(map(str, command))
        blocks += [Text("Repeat the search:"), Code(text)]
    rows = [[name, value] for name, value in list_settings(run)]
    blocks.append(
        Details(f"Settings and versions ({len(rows)})", [Table(("setting", "value"), rows)])
    )
    return Section("Model and settings" if run.winner is not None else "Settings", blocks)


def list_settings(run: Run) -> Iterator[tuple[str, str]]:
    """Every setting of a run by its name, those of the fingerprint last."""
    config = dict(run.config)
    measure = config.get("measure")
    if isinstance(measure, dict) and of_baseline(run.measure, run.result, "validation") is None:
        config["measure"] = {name: measure[name] for name in measure if name != "baseline"}
    with contextlib.suppress(TypeError, ValueError):  # a user's own task may have any text there
        config["fingerprint"] = load_json(config.get("fingerprint", "{}"))
    return _once(list(_flatten(config)))


def _once(settings: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """All but what the fingerprint of the task repeats of the other settings."""
    shown = {
        (name.rpartition(".")[2], value)
        for name, value in settings
        if not name.startswith("fingerprint.")
    }
    for name, value in settings:
        if not name.startswith("fingerprint.") or (name.rpartition(".")[2], value) not in shown:
            yield name, value


def _flatten(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(values, dict):
        yield name, setting(values)
        return
    for key, value in values.items():
        yield from _flatten(value, f"{name}.{key}" if name else str(key))
