"""Prints the lines of `ls_throughput.py` and `train_step.py` as Markdown tables.

    python benchmarks/make_tables.py results.jsonl
    python benchmarks/make_tables.py results.jsonl --into benchmarks/README.md

--into replaces what stands between `<!-- table: NAME -->` and `<!-- end -->` in a file, for every
suite NAME that the lines hold, and leaves the other places alone. The lines of training fill
`train-step`, `train-products`, `train-profile` and `train-epoch`.
"""

import argparse
import json
import pathlib
import re
from typing import Any

import train_tables

_HEAD = (
    "cell, state",
    "layers x H",
    "N",
    "K",
    "B",
    "ms a step (least)",
    "exponents/s",
    "GFLOP/s",
    "time / QR roofline",
    "time / LU roofline",
    "torch rows: ms (threads), ratio",
    "torch dense: ms (threads), ratio",
    "torch dense, all exponents: ratio",
)
_FACTS = ("day", "backend", "device", "cores", "openblas_threads", "torch_threads")


def read(paths: list[pathlib.Path]) -> dict[str, list[dict[str, Any]]]:
    """The records of some files by suite, a later line of the same case in place of an earlier."""
    latest = {}
    for path in paths:
        for line in path.read_text().splitlines():
            record = json.loads(line)
            latest[json.dumps(record["case"], sort_keys=True)] = record
    suites: dict[str, list[dict[str, Any]]] = {}
    for record in latest.values():
        suites.setdefault(record["case"]["suite"], []).append(record)
    return suites


def tables(suites: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """The tables of some suites by name."""
    spectra = {name: found for name, found in suites.items() if not name.startswith("train-")}
    return {
        **{name: table(records) for name, records in spectra.items()},
        **train_tables.tables(suites, _number),
    }


def table(records: list[dict[str, Any]]) -> str:
    """A table of a suite's cases, with the conditions of the measurement below."""
    whole = {
        _sizes(r["case"]): r for r in records if r["case"]["num_exponents"] == _size(r["case"])
    }
    rows = [_HEAD, ["---"] * 2 + ["---:"] * (len(_HEAD) - 2)]
    rows += [[*_row(record), _against_all(record, whole)] for record in records]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *_conditions(records)])


def _row(record: dict[str, Any]) -> list[str]:
    case, ours, ratios = record["case"], record["library"], record["ratios"]
    cell = case["cell"] + (f" (depth {case['depth']})" if case["cell"] == "rhn" else "")
    state = case["state"] if case["cell"] == "lstm" else "all"
    qr = "" if case["qr"] == "auto" else f", qr={case['qr']}"
    return [
        f"{cell}, {state}{qr}",
        f"{case['num_layers']} x {case['hidden_size']}",
        str(_size(case)),
        str(case["num_exponents"]),
        str(case["batch"]),
        f"{_number(ours['median_ms'])} ({_number(ours['min_ms'])})",
        _number(record["exponents_per_s"]),
        _number(ours["gflop_per_s"]),
        _number(ratios["library_over_roofline_qr"]),
        _number(ratios["library_over_roofline_lu"]),
        _torch(record, "torch_rows"),
        _torch(record, "torch_dense"),
    ]


def _size(case: dict[str, Any]) -> int:
    return case["hidden_size"] * (2 if case["cell"] == "lstm" and case["state"] == "full" else 1)


def _sizes(case: dict[str, Any]) -> tuple[Any, ...]:
    """What two cases share that differ in the number of exponents alone."""
    return tuple(case[name] for name in ("cell", "state", "hidden_size", "num_layers", "batch"))


def _against_all(record: dict[str, Any], whole: dict[tuple[Any, ...], dict[str, Any]]) -> str:
    """The time of the dense baseline for all exponents over that of the library for these."""
    reference = whole.get(_sizes(record["case"]), {})
    if "torch_dense" not in reference:
        return ""
    return f"{_number(reference['torch_dense']['median_ms'] / record['library']['median_ms'])}x"


def _torch(record: dict[str, Any], name: str) -> str:
    if name not in record:
        return ""
    ratio = record["ratios"][f"{name}_over_library"]
    milliseconds, threads = _number(record[name]["median_ms"]), record[name]["threads"]
    return f"{milliseconds} ({threads}), {_number(ratio)}x"


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def _conditions(records: list[dict[str, Any]]) -> list[str]:
    """One sentence for each environment and set of steps in the records."""
    sentences = {}
    for record in records:
        facts, case = record["environment"], record["case"]
        versions = {name: facts[name] for name in ("jax", "torch", "numpy") if name in facts}
        told = [f"{name} {facts[name]}" for name in _FACTS if name in facts]
        told += [f"{name} {version}" for name, version in versions.items()]
        told += [
            f"{case['length']} steps of the library and {case['bare_length']} of the others",
            f"{record['repeats']} repeats",
        ]
        sentences.setdefault(", ".join(told), []).append(facts["load"])
    return [
        f"Measured: {told}; load of the machine at the start of a case up to {max(loads)}."
        for told, loads in sentences.items()
    ]


def insert(text: str, tables: dict[str, str]) -> str:
    """The text with the named places filled."""
    for name, lines in tables.items():
        place = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = place.sub(lambda found, lines=lines: f"{found[1]}\n{lines}\n\n{found[2]}", text)
    return text


def main() -> None:
    """Reads the flags, prints or inserts the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=pathlib.Path, nargs="+", help="files of JSON lines")
    parser.add_argument("--into", type=pathlib.Path, help="a Markdown file with places for tables")
    args = parser.parse_args()
    found = tables(read(args.results))
    if args.into:
        args.into.write_text(insert(args.into.read_text(), found))
        return
    for name, lines in found.items():
        print(f"## {name}\n\n{lines}\n")


if __name__ == "__main__":
    main()
