"""How fast is the Lyapunov spectrum, against the linear algebra it needs and against PyTorch?

    python benchmarks/ls_throughput.py --suite=small --out=results.jsonl
    python benchmarks/ls_throughput.py --cell lstm gru --hidden-size 200 --share 0.3 1.0

One JSON line per case: time per step of the library, of the bare products and factorizations at
the same sizes (`roofline.py`) and, where torch is installed, of two PyTorch programs
(`torch_baselines.py`), all measured in turns in this one process. With --out the lines are appended
as they come, and cases that the file already holds are not run again. benchmarks/README.md says
what every field means. --smoke runs in seconds.
"""

import os

# Read when NumPy loads. On the CPU the factorizations of a batch run side by side in XLA's threads,
# and OpenBLAS's own would wait for each other on top of them; as `lsh_jax/cli`.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cases
import flops
import jax
import numpy as np
import roofline
from cases import Case

from lsh_jax import ModelConfig, make_language_model, rnn_lyapunov_spectrum
from lsh_jax.config import ConfigError
from lsh_jax.machine import visible_cores

_VOCAB_SIZE = 1000
_REFUSED = 1  # exit status when the library refused a case


def measure(case: Case, repeats: int, methods: tuple[str, ...]) -> dict[str, Any]:
    """Times the methods in turns.

    Args:
      case: the sizes.
      repeats: turns after the first run of each method, which compiles.
      methods: of "library", "roofline_qr", "roofline_lu", "torch_rows" and "torch_dense".

    Returns:
      A JSON object: one entry per method, what the library's time means, ratios of medians.

    Raises:
      ConfigError: where the library does not know such a case.
    """
    model, params, tokens = _model(case)
    runners: dict[str, Callable[[], Any]] = {}
    threads: dict[str, int] = {}
    for name in methods:
        if name == "library":
            runners[name] = _library(case, model, params, tokens[: case.length])
        elif name.startswith("roofline"):
            runners[name] = roofline.make(case, name)
        else:
            runners[name], threads[name] = _torch(case, name, params, tokens)
    first, results = {}, {}
    for name, run in runners.items():
        first[name], results[name] = _timed(run)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, run in runners.items():
            seconds[name].append(_timed(run)[0])
    num_qr = results["library"].local_exponents.shape[0]  # intervals that ended in a QR
    counted = _flops(case, methods, num_qr)
    record = {
        name: _summary(first[name], seconds[name], _steps(case, name), counted[name])
        for name in methods
    }
    for name, count in threads.items():
        record[name]["threads"] = count
    median = {name: record[name]["median_ms"] for name in methods}
    growths = case.num_layers * case.batch * case.num_exponents
    return {
        **record,
        "num_qr": num_qr,
        "exponents_per_s": round(growths / median["library"] * 1e3),
        "ratios": _ratios(median),
        "sums": _sums(case, results, _library(case, model, params, tokens[: case.bare_length])),
    }


def _model(case: Case) -> tuple[Any, Any, np.ndarray]:
    """A model with random weights, on which the cost does not depend, and tokens for it [T, B]."""
    config = ModelConfig(
        cell=case.cell,  # type: ignore[arg-type]
        vocab_size=_VOCAB_SIZE,
        embed_size=case.hidden_size,
        hidden_size=case.hidden_size,
        num_layers=case.num_layers,
        depth=case.depth,
    )
    model = make_language_model(config)
    generator = np.random.default_rng(0)
    num_steps = max(case.length, case.bare_length)
    tokens = generator.integers(0, _VOCAB_SIZE, (num_steps, case.batch), dtype=np.int32)
    return model, jax.block_until_ready(model.init(jax.random.key(0))), tokens


def _library(case: Case, model: Any, params: Any, tokens: np.ndarray) -> Callable[[], Any]:
    tokens = jax.device_put(tokens)

    def run() -> Any:
        result = rnn_lyapunov_spectrum(
            model,
            params,
            tokens,
            state=case.state,
            num_exponents=case.num_exponents,
            burn_in=0,
            qr=case.qr,
        )
        return jax.block_until_ready(result)

    return run


def _torch(
    case: Case, name: str, params: Any, tokens: np.ndarray
) -> tuple[Callable[[], np.ndarray], int]:
    """What runs a baseline, and the threads it takes."""
    import torch
    import torch_baselines

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    layers, inputs = torch_baselines.load(
        params, tokens[: case.bare_length], dtype=torch.float32, device=device
    )
    columns = case.num_layers * case.num_exponents
    frame = torch_baselines.random_frame(layers, case.batch, columns)
    usual = torch.get_num_threads()
    threads = torch_baselines.faster_threads(name, layers, inputs, frame)

    def run() -> np.ndarray:
        torch.set_num_threads(threads)
        logs = torch_baselines.log_growth(name, layers, inputs, frame)
        torch.set_num_threads(usual)
        return logs

    return run, threads


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def _steps(case: Case, name: str) -> int:
    return case.length if name == "library" else case.bare_length


def _flops(case: Case, methods: tuple[str, ...], num_qr: int) -> dict[str, dict[str, float]]:
    made = flops.executed(case, jax.default_backend(), num_qr)
    counted = {
        "library": flops.library(case, made),
        **{name: flops.roofline(case, kind) for name, kind in roofline.FLOPS_NAMES.items()},
        **{name: flops.torch(case, name) for name in cases.TORCH},
    }
    return {name: counted[name] for name in methods}


def _summary(
    first: float, seconds: list[float], num_steps: int, counted: dict[str, float]
) -> dict[str, Any]:
    """A method's seconds, per step, with what was counted for it."""
    median = statistics.median(seconds)
    total = sum(counted.values())
    return {
        "num_steps": num_steps,
        "first_s": round(first, 3),
        "median_ms": _digits(median / num_steps * 1e3),
        "min_ms": _digits(min(seconds) / num_steps * 1e3),
        "max_ms": _digits(max(seconds) / num_steps * 1e3),
        "gflop": _digits(total / 1e9),
        "gflop_parts": {part: _digits(value / 1e9) for part, value in counted.items()},
        "gflop_per_s": _digits(total * num_steps / median / 1e9),
    }


def _ratios(median: dict[str, float]) -> dict[str, float]:
    """How many times longer the library takes than a roofline, and PyTorch than the library."""
    ours = median["library"]
    return {
        f"{name}_over_library" if name in cases.TORCH else f"library_over_{name}": _digits(
            value / ours if name in cases.TORCH else ours / value
        )
        for name, value in median.items()
        if name != "library"
    }


def _sums(case: Case, results: dict[str, Any], short_run: Callable[[], Any]) -> dict[str, float]:
    """Sums of all exponents where all are tracked: they are the mean log |det J|, whatever the
    order of the products and the first frame, so the methods must agree on them.
    """
    baselines = [name for name in results if name in cases.TORCH]
    if not baselines or case.num_exponents < case.size:
        return {}
    sums = {name: results[name].mean(axis=(0, 1), dtype=np.float64).sum() for name in baselines}
    same = case.length == case.bare_length
    ours = results["library"] if same else short_run()
    sums["library"] = np.asarray(ours.exponents, np.float64).sum()
    return {name: _digits(float(value), 7) for name, value in sums.items()}


def _digits(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def environment(methods: tuple[str, ...]) -> dict[str, Any]:
    """Where and with what this process measures."""
    packages = ["jax", "jaxlib", "numpy"]
    facts: dict[str, Any] = {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "cores": visible_cores(),
        "openblas_threads": os.environ["OPENBLAS_NUM_THREADS"],
        "load": round(os.getloadavg()[0], 2),
        "day": time.strftime("%Y-%m-%d"),
    }
    if any(name in cases.TORCH for name in methods):
        import torch

        packages.append("torch")
        facts["torch_threads"] = torch.get_num_threads()
    return {**facts, **{name: importlib.metadata.version(name) for name in packages}}


def torch_methods() -> tuple[str, ...]:
    """The PyTorch baselines that can run here on the device that JAX uses."""
    if importlib.util.find_spec("torch") is None:
        return ()
    import torch

    there = {"cpu": True, "gpu": torch.cuda.is_available()}
    return cases.TORCH if there.get(jax.default_backend(), False) else ()


def _identity(record: dict[str, Any]) -> str:
    """What makes two lines the same measurement."""
    facts = record["environment"]
    methods = [name for name in ("library", *roofline.FLOPS_NAMES, *cases.TORCH) if name in record]
    return json.dumps([record["case"], methods, facts["backend"], facts["device"]], sort_keys=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", choices=cases.SUITES, help="named cases instead of own sizes")
    parser.add_argument("--smoke", action="store_const", const="smoke", dest="suite")
    parser.add_argument("--out", type=pathlib.Path, help="append the lines here and go on from it")
    parser.add_argument("--no-torch", action="store_true", help="leave the PyTorch programs out")
    parser.add_argument("--repeats", type=int, help="turns after the first run [5; smoke: 1]")
    parser.add_argument("--qr", help="back-end of the library [auto]")
    parser.add_argument("--length", type=int, help="steps of the library [by suite]")
    parser.add_argument("--bare-length", type=int, help="steps of all others [by suite]")
    parser.add_argument("--batch", type=int, help="columns of the batch [by suite]")
    own = parser.add_argument_group("own sizes, in every combination")
    own.add_argument("--cell", nargs="+", default=["lstm"], choices=cases.CELLS)
    own.add_argument("--hidden-size", type=int, nargs="+", default=[100])
    own.add_argument("--state", nargs="+", default=["hidden"], choices=["hidden", "full"])
    own.add_argument("--num-exponents", type=int, nargs="+", default=[], help="of each layer")
    own.add_argument("--share", type=float, nargs="+", help="of a layer's exponents [0.3 1.0]")
    own.add_argument("--num-layers", type=int, default=2)
    own.add_argument("--depth", type=int, default=5, help="micro-steps of an RHN")
    args = parser.parse_args(arguments)
    if args.suite == "growth" and any((args.length, args.bare_length, args.batch)):
        parser.error("the suite growth varies --length, --bare-length and --batch itself")
    return args


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases that the flags ask for."""
    if args.suite:
        found = cases.suite(args.suite)
    else:
        shares = args.share if args.share or args.num_exponents else [0.3, 1.0]
        found = cases.grid(
            args.cell,
            args.hidden_size,
            args.state,
            args.num_exponents,
            shares or [],
            args.num_layers,
            args.depth,
        )
    flags = {name: getattr(args, name) for name in ("qr", "length", "bare_length", "batch")}
    given = {name: value for name, value in flags.items() if value is not None}
    return [dataclasses.replace(case, **given) for case in found]


def main(arguments: list[str] | None = None) -> int:
    """Measures the cases that are not done yet and prints their lines."""
    args = parse(arguments)
    repeats = args.repeats or (1 if args.suite == "smoke" else 5)
    baselines = () if args.no_torch else torch_methods()
    done = set()
    if args.out and args.out.exists():
        done = {_identity(json.loads(line)) for line in args.out.read_text().splitlines()}
    try:
        todo = chosen(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    status = 0
    for case in todo:
        methods = ("library", *roofline.FLOPS_NAMES, *(baselines if case.comparable else ()))
        record: dict[str, Any] = {
            "case": dataclasses.asdict(case),
            "environment": environment(methods),
        }
        if _identity({**record, **dict.fromkeys(methods)}) in done:
            continue
        try:
            record |= {"repeats": repeats, **measure(case, repeats, methods)}
        except ConfigError as error:
            print(f"{json.dumps(record['case'])}: {error}", file=sys.stderr)
            status = _REFUSED
            continue
        line = json.dumps(record)
        print(line, flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(line + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
