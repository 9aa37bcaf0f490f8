"""How fast is a training step, against the machine's matrix products and against PyTorch?

    python benchmarks/train_step.py --out=training.jsonl
    python benchmarks/train_step.py --cases lstm-650 rhn-830 --no-torch
    python benchmarks/train_step.py --profile --out=training.jsonl
    python benchmarks/train_step.py --epoch --out=training.jsonl

One JSON line a case. By itself: the library's step, the same with a plain scan for a layer, that of
PyTorch where it is installed, a large square product, and the products of the step at their own
shapes, all in turns in this one process. `--profile`: where the time of a step goes, its pieces
apart. `--epoch`: what masks, averages, evaluation, a spectrum and a topology update add to an epoch
of Penn Treebank, and what candidates gain side by side. With --out the lines are appended as they
come, and cases that the file already holds are not run again. benchmarks/README.md says what every
field means. --smoke runs in seconds.
"""

import os

# Read when NumPy loads; of the factorizations of a spectrum alone. As `ls_throughput.py`.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import dataclasses
import importlib.util
import json
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any

import cases
import flops
import jax
import jax.numpy as jnp
import train_cases
import train_pieces
from ls_throughput import environment
from train_cases import Case, segment
from turns import Runner, digits, in_turns, runner, summary

from lsh_jax.machine import visible_cores
from lsh_jax.sizes import model_sizes

_SQUARE, _SMALL_SQUARE = 4096, 64
_ROWS = "recurrent, as rows"  # the forward product the other way round
_QUESTIONS = {"profile": train_pieces.profile, "epoch": train_pieces.epoch}


def step(case: Case, repeats: int, *, torch: bool, square: int) -> dict[str, Any]:
    """Times a step of training and what bounds it.

    Args:
      case: the model and its recipe.
      repeats: turns after the first run of each.
      torch: whether PyTorch takes a turn.
      square: side of the large product.

    Returns:
      A JSON object: seconds to compile, times a window, the products, ratios.
    """
    model, recipe = case.model, case.recipe
    runners: dict[Any, Runner] = {"library": segment(case)}
    if torch:
        runners["torch"] = _torch(case)
    if recipe.precision == "float32":
        runners["autodiff"] = segment(case, "autodiff")
    if not train_cases.dropout(recipe):
        runners["undropped"] = segment(case, "undropped")
    found = flops.train_products(model, recipe.batch_size, recipe.bptt)
    whole = flops.Product("square", square, square, square)
    for product in (whole, *found, *_as_rows(found)):
        runners[product] = multiply(product, recipe.precision)
    seconds = in_turns(runners, repeats)
    record = {
        name: summary(runners[name].compile_s, seconds[name], case.windows)
        for name in runners
        if isinstance(name, str)
    }
    tokens = recipe.batch_size * recipe.bptt
    flop = 6 * model_sizes(model).multiply_adds * tokens
    library = record["library"]["median_ms"] / 1e3
    products = [_measured(p, seconds[p], found.get(p, 0)) for p in (*found, *_as_rows(found))]
    best = 1e3 * sum(
        count * min(statistics.median(seconds[way]) for way in (p, *_as_rows([p])))
        for p, count in found.items()
    )
    peak = whole.flops / statistics.median(seconds[whole])
    return {
        **record,
        "tokens_per_s": digits(tokens / library),
        "gflop": digits(flop / 1e9),
        "gflop_per_s": digits(flop / library / 1e9),
        "square": {"size": square, **_measured(whole, seconds[whole], 1)},
        "share_of_square": digits(flop / library / peak),
        "products": products,
        "best_ms": digits(best),
        "best_over_library": digits(best / record["library"]["median_ms"]),
        "ratios": {
            f"{name}_over_library": {
                which: digits(record[name][which] / record["library"][which])
                for which in ("median_ms", "min_ms")
            }
            for name in record
            if name != "library"
        },
    }


def multiply(product: flops.Product, precision: str = "float32") -> Runner:
    """A product of random matrices, as often as a step of training makes it in turn."""
    rows = product.factors.startswith("b")
    across, along = "aT" in product.factors, "bT" in product.factors
    left = (product.k, product.m) if across or rows else (product.m, product.k)
    right = (product.n, product.k) if along or rows else (product.k, product.n)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    steps = max(product.steps, 1)
    a = jax.random.normal(jax.random.key(0), (product.matrices, *left), dtype)
    b = jax.random.normal(jax.random.key(1), (steps, product.matrices, *right), dtype)

    def run(a: Any, b: Any) -> Any:
        # Transposed once, before the steps, as a layer does.
        matrices = [matrix.T if across else matrix for matrix in a]

        def at(b: Any) -> list[Any]:
            others = [other.T if along else other for other in b]
            pairs = (
                zip(others, matrices, strict=True) if rows else zip(matrices, others, strict=True)
            )
            return [jnp.dot(x, y, preferred_element_type=jnp.float32) for x, y in pairs]

        return jax.lax.map(at, b) if product.steps else at(b[0])

    return runner(run, a, b)


def _as_rows(found: Iterable[flops.Product]) -> list[flops.Product]:
    """The forward products of the recurrences with the state on the left, [B, H] x [H, G]."""
    recurrent = [product for product in found if product.part == "recurrent"]
    return [product._replace(part=_ROWS, factors="b a") for product in recurrent]


def _torch(case: Case) -> Runner:
    """The model in PyTorch on all cores, from the weights of the library's."""
    import torch
    import torch_training

    torch.set_num_threads(int(visible_cores()))
    state, windows = train_cases.start(case), train_cases.random_windows(case)
    return Runner(0.0, torch_training.make(case.model, case.recipe, state.params, windows)[1])


def _measured(product: flops.Product, seconds: list[float], count: int) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        **product._asdict(),
        "count": count,
        "median_ms": digits(median * 1e3),
        "gflop_per_s": digits(product.flops / median / 1e9),
    }


def _torch_runs() -> bool:
    """Whether PyTorch is here, and where JAX computes."""
    return importlib.util.find_spec("torch") is not None and jax.default_backend() == "cpu"


def _identity(record: dict[str, Any]) -> str:
    """What makes two lines the same measurement."""
    facts = record["environment"]
    return json.dumps(
        [record["case"], facts["backend"], facts["device"], "torch" in facts], sort_keys=True
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=train_cases.CASES, help="[all that apply]")
    question = parser.add_mutually_exclusive_group()
    question.add_argument("--profile", action="store_true", help="where the time of a step goes")
    question.add_argument("--epoch", action="store_true", help="what is added to an epoch")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--repeats", type=int, help="turns after the first run [5; smoke: 1]")
    parser.add_argument("--out", type=pathlib.Path, help="append the lines here and go on from it")
    parser.add_argument("--smoke", action="store_true", help="small cases, in seconds")
    return parser.parse_args(arguments)


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases that the flags ask for."""
    known = train_cases.smoke() if args.smoke else train_cases.CASES.values()
    if args.cases and not args.smoke:
        found = [train_cases.CASES[name] for name in args.cases]
    else:
        whole = not (args.profile or args.epoch)  # pieces of a step are the same without dropout
        found = [case for case in known if whole or train_cases.dropout(case.recipe)]
    return [
        dataclasses.replace(c, recipe=dataclasses.replace(c.recipe, precision=args.precision))
        for c in found
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measures the cases that are not done yet and prints their lines."""
    args = parse(arguments)
    repeats = args.repeats or (1 if args.smoke else 5)
    question = next((name for name in _QUESTIONS if getattr(args, name)), "step")
    torch = question == "step" and not args.no_torch and _torch_runs()
    done = set()
    if args.out and args.out.exists():
        done = {_identity(json.loads(line)) for line in args.out.read_text().splitlines()}
    for case in chosen(args):
        facts = environment(cases.TORCH if torch else ())
        record: dict[str, Any] = {"case": case.facts(question), "environment": facts}
        if _identity(record) in done:
            continue
        if question == "step":
            square = _SMALL_SQUARE if args.smoke else _SQUARE
            found = step(case, repeats, torch=torch, square=square)
        else:
            found = _QUESTIONS[question](case, repeats)
        line = json.dumps({**record, "repeats": repeats, **found})
        print(line, flush=True)
        if args.out:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
