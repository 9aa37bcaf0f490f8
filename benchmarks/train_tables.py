"""The lines of `train_step.py` as Markdown tables, for `make_tables.py`."""

from collections.abc import Callable, Sequence
from typing import Any

Records = list[dict[str, Any]]
Number = Callable[[float], str]

_FACTS = ("day", "backend", "device", "cores", "torch_threads", "jax", "torch")


def tables(suites: dict[str, Records], number: Number) -> dict[str, str]:
    """A table for each question that the records answer, and one of the products of a step.

    Args:
      suites: the records by suite; others than "train-step", "train-profile" and "train-epoch" are
        left out.
      number: what writes a number.
    """
    makers = {
        "train-step": ("train-step", _steps),
        "train-products": ("train-step", _products),
        "train-profile": ("train-profile", _pieces),
        "train-epoch": ("train-epoch", _epochs),
    }
    return {
        name: "\n".join([*_lines(make(suites[suite], number)), "", *_conditions(suites[suite])])
        for name, (suite, make) in makers.items()
        if suite in suites
    }


def _steps(records: Records, number: Number) -> list[Sequence[str]]:
    head = (
        "model",
        "dropout",
        "ms a step (least)",
        "tokens/s",
        "GFLOP/s",
        "of the square product",
        "best possible / step",
        "torch: ms (least)",
        "torch / ours (by least)",
        "plain scan / ours (by least)",
        "no masks of dropout / ours",
        "compiling, s",
    )
    rows = [head, _aligned(len(head), 2)]
    for record in records:
        ours, ratios = record["library"], record["ratios"]
        rows.append(
            (
                _model(record["case"]),
                "on" if record["case"]["dropout"] else "off",
                _times(ours, number),
                number(record["tokens_per_s"]),
                number(record["gflop_per_s"]),
                _percent(record["share_of_square"]),
                _percent(record["best_over_library"]),
                _times(record["torch"], number) if "torch" in record else "",
                _ratio(ratios, "torch", number),
                _ratio(ratios, "autodiff", number),
                _ratio(ratios, "undropped", number),
                number(ours["compile_s"]),
            )
        )
    return rows


def _products(records: Records, number: Number) -> list[Sequence[str]]:
    head = ("model", "product", "shape", "times a step", "ms", "GFLOP/s")
    rows = [head, _aligned(len(head), 3)]
    seen = set()
    for record in records:
        model = _model(record["case"])
        if model in seen:  # with and without dropout they are the same
            continue
        seen.add(model)
        square = record["square"]
        for product in (square, *record["products"]):
            turns = max(product["steps"], 1) * product["matrices"]
            times = f"{product['count']} x {turns}" if product["count"] else "instead"
            rows.append(
                (
                    model,
                    product["part"],
                    f"{product['m']} x {product['k']} x {product['n']}",
                    "" if product is square else times,
                    number(product["median_ms"]),
                    number(product["gflop_per_s"]),
                )
            )
    return rows


def _pieces(records: Records, number: Number) -> list[Sequence[str]]:
    head = ("piece: ms (share)", *(_model(record["case"]) for record in records))
    rows = [head, _aligned(len(head), 1)]
    for name in records[0]["pieces_ms"]:
        pairs = [(record["pieces_ms"][name], record["shares"][name]) for record in records]
        rows.append((name, *(f"{number(ms)} ({_percent(share)})" for ms, share in pairs)))
    return [*rows, ("the step", *(number(record["step_ms"]) for record in records))]


def _epochs(records: Records, number: Number) -> list[Sequence[str]]:
    added = tuple(records[0]["added_s"])
    sizes = tuple(records[0]["population"])
    head = (
        "model",
        "epoch, s",
        *(f"{name}: s (share)" for name in added),
        *(f"{size} side by side: time each / alone" for size in sizes),
    )
    rows = [head, _aligned(len(head), 1)]
    for record in records:
        seconds, shares, stacks = record["added_s"], record["shares"], record["population"]
        rows.append(
            (
                _model(record["case"]),
                number(record["epoch_s"]),
                *(f"{number(seconds[name])} ({_percent(shares[name])})" for name in added),
                *(number(stacks[size]["time_over_alone"]) for size in sizes),
            )
        )
    return rows


def _model(case: dict[str, Any]) -> str:
    depth = f", depth {case['depth']}" if case["depth"] > 1 else ""
    tied = ", tied" if case["tied"] else ""
    low = "" if case["precision"] == "float32" else f", {case['precision']}"
    return f"{case['cell']} {case['num_layers']} x {case['hidden_size']}{depth}{tied}{low}"


def _times(measured: dict[str, float], number: Number) -> str:
    return f"{number(measured['median_ms'])} ({number(measured['min_ms'])})"


def _ratio(ratios: dict[str, dict[str, float]], name: str, number: Number) -> str:
    found = ratios.get(f"{name}_over_library")
    return f"{number(found['median_ms'])} ({number(found['min_ms'])})" if found else ""


def _percent(share: float) -> str:
    digits = 0 if abs(share) >= 0.1 else 2
    return f"{100 * share:.{digits}f} %"


def _aligned(columns: int, left: int) -> tuple[str, ...]:
    return ("---",) * left + ("---:",) * (columns - left)


def _lines(rows: list[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in rows]


def _conditions(records: Records) -> list[str]:
    """One sentence for each environment in the records."""
    sentences: dict[str, list[float]] = {}
    for record in records:
        facts = record["environment"]
        told = [f"{name} {facts[name]}" for name in _FACTS if name in facts]
        case = record["case"]
        told += [
            f"{case['batch_size']} columns of {case['bptt']} steps",
            f"{case['vocab_size']:,} words",
            f"{record['repeats']} repeats",
        ]
        sentences.setdefault(", ".join(told), []).append(facts["load"])
    return [
        f"Measured: {told}; load of the machine at the start of a case up to {max(loads)}."
        for told, loads in sentences.items()
    ]
