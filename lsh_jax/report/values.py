"""What the files of a run directory must hold for a report to be made of them.

A run directory may come from a stranger: what a report computes with is checked here once, and what
is wrong is said by its name. Everything else is text, which the page escapes.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

from lsh_jax.config import choices
from lsh_jax.search import measure

_LEVELS = 40  # of objects and lists within each other
_LARGEST = 1e300  # so that sums and margins of pictures stay finite


class Kind(NamedTuple):
    """What a value must be, in words and as a predicate."""

    words: str
    holds: Callable[[Any], bool]


Expected = Kind | dict[str, Any] | list[Any]
"""A kind; an object by key, a key that ends in "?" being optional; or a list of one sort."""


def load_json(text: str | bytes) -> Any:
    """Reads JSON.

    Raises:
      ValueError: when it is none, or nested so deeply that nobody wrote it.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not is_shallow(value):
        raise ValueError("it is nested too deeply")
    return value


def is_shallow(value: Any, levels: int = _LEVELS) -> bool:
    """Whether objects and lists lie within each other no deeper than `levels`."""
    if not isinstance(value, dict | list):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(inner, levels - 1) for inner in inside)


def find_fault(value: Any, expected: Expected, name: str = "") -> str | None:
    """What is wrong with a value: the first fault found, by its name; None for nothing."""
    if isinstance(expected, Kind):
        if expected.holds(value):
            return None
        return f"`{name}` must be {expected.words}, got {_shortened(value)}"
    if isinstance(expected, list):
        if not isinstance(value, list):
            return f"`{name}` must be a list, got {_shortened(value)}"
        inside = [(inner, expected[0], f"{name}[{index}]") for index, inner in enumerate(value)]
    elif not isinstance(value, dict):
        return f"`{name}` must be an object, got {_shortened(value)}"
    else:
        inside = []
        for key, inner in expected.items():
            plain = key.removesuffix("?")
            whole = f"{name}.{plain}" if name else plain
            if plain in value:
                inside.append((value[plain], inner, whole))
            elif key == plain:
                return f"`{whole}` is missing"
    return next(filter(None, (find_fault(*entry) for entry in inside)), None)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that can be computed with; a bool is none."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and abs(value) <= _LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _shortened(value: Any) -> str:
    if not is_shallow(value):
        return "something nested too deeply"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.words} or null", lambda value: value is None or kind.holds(value))


def _each(kind: Kind, words: str) -> Kind:
    def holds(value: Any) -> bool:
        return isinstance(value, dict) and all(map(kind.holds, value.values()))

    return Kind(words, holds)


_COUNT = Kind("a whole number from 0", _is_whole)
_POSITIVE = Kind("a whole number from 1", lambda value: _is_whole(value) and value > 0)
_NUMBER = Kind("a number", is_number)
_AMOUNT = Kind("a number from 0", lambda value: is_number(value) and value >= 0)
_EPOCHS = Kind("a number of epochs", lambda value: is_number(value) and 0 <= value < 1e15)
_PERPLEXITY = _AMOUNT  # exp of an nll far below 0 is 0
_SHARE = Kind("a share from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
_DIFFERENCE = Kind("a difference of nll", is_number)
_TEXT = Kind("text", lambda value: isinstance(value, str))
_OBJECT = Kind("an object", lambda value: isinstance(value, dict) and is_shallow(value))
_MEASURE = {
    "kind": Kind("a kind of measure", lambda value: value in choices(measure.Kind)),
    "scale?": Kind("a number above 0", measure.is_scale),
    "baseline?": Kind("a short name", measure.is_name),
}
_LISTS = _each(Kind("a list", lambda value: isinstance(value, list)), "an object of lists")

CONFIG: Expected = {
    "search?": {
        "metric?": _TEXT,
        "reference?": _TEXT,
        "sparsity?": _NUMBER,
        "e0?": _POSITIVE,
        "space?": _LISTS,
    },
    "measure?": _MEASURE,
}
"""config.json; what a user's own task records there besides is free."""

_COSTS = {
    "weights": _POSITIVE,
    "live": _COUNT,
    "unmasked": _COUNT,
    "flops_forward": _COUNT,
    "flops_training": {"needed": _COUNT, "executed": _COUNT},
    "bytes": {"stored": _COUNT, "csr": _COUNT},
}
_PART = {
    "leaf": _TEXT,
    "gate": _or_null(_TEXT),
    "weights": _COUNT,
    "live": _COUNT,
    "explored": _COUNT,
}
_NETWORK = {
    "val_perplexity": _or_null(_PERPLEXITY),
    "test_perplexity": _or_null(_PERPLEXITY),
    "val_nll?": _or_null(_NUMBER),
    "test_nll?": _or_null(_NUMBER),
}

RESULT: Expected = {
    "dense": {
        **_NETWORK,
        "epochs": _COUNT,
        "best_epoch?": _COUNT,
        "nonzeros?": _or_null(_COUNT),
        "hyper?": _OBJECT,
        "tuning_trials?": _COUNT,
    },
    "best": {
        **_NETWORK,
        "trial": _COUNT,
        "epoch?": _COUNT,
        "controls": _OBJECT,
        "sparsity": _NUMBER,
        "nonzeros": _COUNT,
    },
    "beats_dense": {
        "difference": _DIFFERENCE,
        "low": _DIFFERENCE,
        "high": _DIFFERENCE,
        "level?": _NUMBER,
    },
    "budget": {
        "epochs_spent": _EPOCHS,
        "epochs_dense": _EPOCHS,
        "epochs_tuning?": _EPOCHS,
        "epochs_full_search": _EPOCHS,
        "ratio": _NUMBER,
        "ratio_with_dense": _NUMBER,
    },
    "rounds?": [
        {
            "round": _COUNT,
            "epochs": _COUNT,
            "entered": [_COUNT],
            "failed": [_COUNT],
            "survivors": [_COUNT],
        }
    ],
    "counts?": {"dense": _COSTS, "best": {**_COSTS, "parts": [_PART]}},
    "measure?": _MEASURE,
    "baseline_nll?": _each(_NUMBER, "an object of numbers"),
    "unigram_perplexity?": _or_null(_PERPLEXITY),
    "unigram_test_perplexity?": _or_null(_PERPLEXITY),
    "metric?": _TEXT,
    "wall_s?": _or_null(_AMOUNT),
}
"""result.json."""


def _is_topology(value: Any) -> bool:
    shares = {"density": _each(_SHARE, "shares"), "overlap": _SHARE, "explored": _SHARE}
    return find_fault(value, shares) is None


def _is_line(longest: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()
    )


FIGURE: Expected = {
    "title": Kind("a line of at most 80 letters", _is_line(80)),
    "alt": Kind("a line of at most 1,000 letters", _is_line(1000)),
    "caption?": Kind(
        "text of at most 4,000 letters",
        lambda value: isinstance(value, str) and len(value) <= 4000,
    ),
    "file": Kind(
        "a file's name of a-z, 0-9, _ and - that ends in .svg or .png",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"[a-z0-9_-]{1,60}\.(svg|png)", value))
        ),
    ),
    "paper?": Kind("true or false", lambda value: isinstance(value, bool)),
}
"""figures/NAME.json."""

RECORD: Expected = {
    "epoch": _COUNT,
    "round": _or_null(_COUNT),
    "controls": _OBJECT,
    "score": _or_null(_NUMBER),
    "ls_distance": _or_null(_AMOUNT),
    "ls_std_error": _or_null(_AMOUNT),
    "floored": _or_null(_COUNT),
    "val_nll": _or_null(_NUMBER),
    "val_perplexity": _or_null(_PERPLEXITY),
    "churn": _or_null(_NUMBER),
    "nonzeros": _or_null(_COUNT),
    "duplicate_of": _or_null(_COUNT),
    "topology": _or_null(Kind("shares of the weights", _is_topology)),
}
"""A line of the ledger, beyond the types that `Ledger` itself sees to."""
