"""Programs that are timed in turns, so that what disturbs the machine disturbs all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Runner(NamedTuple):
    """A program to time."""

    compile_s: float
    run: Callable[[], Any]  # once, to the end


def compiled(program: Callable[..., Any], *arguments: Any, donate: bool = False) -> Any:
    """Compiles a function for its arguments, the first of them used up by every call if `donate`.

    Returns:
      Seconds, and what runs it.
    """
    began = time.perf_counter()
    jitted = jax.jit(program, donate_argnums=0 if donate else ())
    executable = jitted.lower(*arguments).compile()
    return time.perf_counter() - began, executable


def runner(program: Callable[..., Any], *arguments: Any) -> Runner:
    """A function of arguments that stay."""
    spent, executable = compiled(program, *arguments)
    return Runner(spent, lambda: jax.block_until_ready(executable(*arguments)))


def in_turns(runners: Mapping[Any, Runner], repeats: int) -> dict[Any, list[float]]:
    """Runs each once, then all in turn; seconds of the turns."""
    seconds: dict[Any, list[float]] = {name: [] for name in runners}
    for turn in range(repeats + 1):
        for name, (_, run) in runners.items():
            began = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def summary(compile_s: float, seconds: list[float], windows: int = 1) -> dict[str, float]:
    """Milliseconds, for each of some windows."""
    milliseconds = [second / windows * 1e3 for second in seconds]
    return {
        "compile_s": round(compile_s, 2),
        "median_ms": digits(statistics.median(milliseconds)),
        "min_ms": digits(min(milliseconds)),
        "max_ms": digits(max(milliseconds)),
    }


def digits(value: float) -> float:
    """Four of them."""
    return float(f"{value:.4g}")
