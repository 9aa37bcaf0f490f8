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
from lsh_jax.report.page import Block, Code, Details, Facts, Picture, Pictures, Section, Table, Text
from lsh_jax.report.run import GIVEN, Run, all_rounds, at_epoch, given, round_bars, round_name
from lsh_jax.report.svg import to_svg
from lsh_jax.report.values import is_number, load_json

SCORES = {
    "ls": "the LS distance to the dense network",
    "loss": "the validation nll",
    "death-rate": "minus the death rate",
    "none": "a random number",
}


def subtitle(run: Run) -> str:
    """What was searched, in one line."""
    result, search = run.result, run.search
    parts = [plural(len(run.candidates), "candidate")]
    parts += [f"{name} {run.config[name]}" for name in ("preset", "data") if name in run.config]
    if "sparsity" in search:
        parts.append(f"target sparsity {percent(search['sparsity'])}")
    parts += [f"{name} {result[name]}" for name in ("metric", "algo", "seed") if name in result]
    return " · ".join(parts)


def result_section(run: Run) -> Section:
    """The winner against the dense network."""
    result, best, dense = run.result, run.result["best"], run.result["dense"]
    change = result["beats_dense"]["difference"]
    of_all = f" of {dense['nonzeros']:,}" if dense.get("nonzeros") else ""
    facts = [
        ("winner", f"trial {best['trial']}"),
        ("test perplexity", number(best["test_perplexity"])),
        ("change of test perplexity", f"{signed(100 * math.expm1(change), 1)} %"),
        ("sparsity", percent(best["sparsity"])),
        (f"live weights{of_all}", f"{best['nonzeros']:,}"),
    ]
    epoch = GIVEN if given(run) else _epoch(dense.get("best_epoch", dense["epochs"]))
    rows = [
        ["winner", *_perplexities(best), _epoch(best.get("epoch"))],
        ["dense", *_perplexities(dense), epoch],
    ]
    unigrams = [result.get(f"unigram_{name}") for name in ("perplexity", "test_perplexity")]
    if any(value is not None for value in unigrams):
        rows.append(["unigram", *map(number, unigrams), MISSING])
    note = (
        "The interval is of the paired difference on blocks of the test text. It covers the choice "
        "of text, not the chance of training: the two networks were trained once each, and other "
        "seeds could come out otherwise. The winner is the finalist with the lowest validation "
        "perplexity; the test text was read once, after that."
    )
    blocks: list[Block] = [
        Text(headline(result), "lead"),
        *(Text(text, "warning") for text in _warnings(run)),
        Facts(facts),
        Table(("network", "#validation perplexity", "#test perplexity", "#epoch"), rows),
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
    if compared["high"] < 0:
        verdict = "The pruned network beats the dense one"
    elif compared["low"] > 0:
        verdict = "The pruned network does not beat the dense one"
    else:
        verdict = "The pruned network and the dense one cannot be told apart"
    level = percent(compared.get("level", 0.95), 0)
    return (
        f"{verdict}: test perplexity {number(best['test_perplexity'])} against "
        f"{number(dense['test_perplexity'])}, a difference of {signed(compared['difference'])} "
        f"nats per token ({level} interval {signed(compared['low'])} to "
        f"{signed(compared['high'])}; below 0 the pruned network is better)."
    )


def _perplexities(model: dict[str, Any]) -> list[str]:
    return [number(model["val_perplexity"]), number(model["test_perplexity"])]


def _epoch(epoch: int | None) -> str:
    return MISSING if epoch is None else str(epoch)


def _warnings(run: Run) -> Iterator[str]:
    unigram = run.result.get("unigram_perplexity")
    scored_at = {entry["epochs"] for entry in run.rounds} or {run.first_epoch}
    early = {
        record.trial
        for history in run.candidates.values()
        for record in history
        if unigram is not None
        and record.epoch in scored_at
        and record.score is not None
        and (record.val_perplexity or math.inf) > unigram
    }
    if early:
        yield (
            f"{len(early)} of {plural(len(run.candidates), 'candidate')} were scored while their "
            f"validation perplexity was still above the unigram perplexity, {number(unigram)}: "
            "they had not begun to learn, and their scores say little. Raise --e0."
        )
    dense = run.result["dense"]["val_perplexity"]
    if unigram is not None and (dense is None or dense > unigram):
        yield (
            "The dense network itself is no better than the unigram predictor: nearness to it is "
            "no merit. Train it longer, or change the recipe."
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
        f"{_score(run)} is lowest; the finals keep the one with the lowest validation perplexity."
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
