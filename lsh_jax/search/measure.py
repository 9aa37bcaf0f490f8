"""What people are told of a mean nll: perplexity, an rms error, or the nll itself.

A search goes by the nll alone. How it is told is known by kind, not by a function: reports are made
of a run directory, long after the task is gone.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from lsh_jax.config import check, check_choice, choices
from lsh_jax.search.ledger import Record, perplexity
from lsh_jax.sequence_models import rms_of_nll

Kind = Literal["perplexity", "nll", "rms"]

_NAMES: Mapping[str, str] = {"perplexity": "perplexity", "nll": "nll", "rms": "rms error"}
_SHORT: Mapping[str, str] = {"perplexity": "ppl", "nll": "nll", "rms": "rms"}
_LONGEST = 40  # letters of the name of a baseline


class Measure(NamedTuple):
    """How well a network does, as people are told; lower is better in every kind.

    Attributes:
      kind: "perplexity", exp of the nll; "nll", in nats a prediction; "rms", the root mean square
        of errors, where the nll is that of `lsh_jax.sequence_models.gaussian_nll`.
      scale: of `gaussian_nll`, > 0, in the unit of the errors; other kinds have none.
      baseline: an adjective for the predictor of `Task.baseline_nll`: "unigram", "no-change".
    """

    kind: Kind = "nll"
    scale: float = 1.0
    baseline: str = "memoryless"

    @property
    def name(self) -> str:
        """What it is called: "perplexity", "nll", "rms error"."""
        return _NAMES[self.kind]

    @property
    def title(self) -> str:
        """Its name at the head of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def short(self) -> str:
        """What heads a column: "ppl", "nll", "rms"."""
        return _SHORT[self.kind]

    @property
    def label(self) -> str:
        """What stands beside an axis: its name, and its unit where it has one of its own."""
        return "nll, nats per prediction" if self.kind == "nll" else self.name

    @property
    def unit(self) -> str:
        """Of differences of the nll; what a network predicts is a token or a prediction."""
        return f"nats per {'token' if self.kind == 'perplexity' else 'prediction'}"

    @property
    def data(self) -> str:
        """What it is measured on: "text" where it is that of a language model, else "data"."""
        return "text" if self.kind == "perplexity" else "data"

    @property
    def has_ratios(self) -> bool:
        """Whether ratios of its values mean something, so that an axis may be logarithmic."""
        return self.kind != "nll"

    def of(self, nll: float | None) -> float | None:
        """Its value for a mean nll in nats; None where that is no finite number."""
        if nll is None or not math.isfinite(nll):
            return None
        if self.kind == "perplexity":
            return perplexity(nll)
        value = nll if self.kind == "nll" else rms_of_nll(nll, self.scale)
        return value if math.isfinite(value) else None

    def of_record(self, record: Record) -> float | None:
        """Its value after an epoch, on validation."""
        return record.val_perplexity if self.kind == "perplexity" else self.of(record.val_nll)

    def shown(self, value: float | None) -> str:
        """A value in a line of text."""
        if value is None:
            return "beyond numbers"
        return f"{value:.1f}" if self.kind == "perplexity" else f"{value:.4g}"

    def shown_baseline(self, value: float | None) -> str:
        """The value of the baseline to stand behind another: " (unigram 684)", or nothing."""
        if value is None:
            return ""
        text = f"{value:.0f}" if self.kind == "perplexity" else f"{value:.4g}"
        return f" ({self.baseline} {text})"


NLL = Measure()
"""Of tasks that say nothing."""
PERPLEXITY = Measure("perplexity", baseline="unigram")
"""Of language models."""


def check_measure(measure: Measure) -> None:
    """Refuses a measure that cannot be told.

    Raises:
      ConfigError: when its kind is unknown, its scale no positive number, or its baseline no name.
    """
    check_choice("measure.kind", measure.kind, choices(Kind))
    scale, baseline = measure.scale, measure.baseline
    check(is_scale(scale), "measure.scale", "be a Python number above 0 and finite", scale)
    check(is_name(baseline), "measure.baseline", f"be 1 to {_LONGEST} letters in a line", baseline)


def is_scale(value: Any) -> bool:
    """Whether a value can be the scale of a measure."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and 0 < value <= 1e300  # so that an int of any length is none


def is_name(value: Any) -> bool:
    """Whether a value can be the name of a baseline."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()


def read_measure(settings: Mapping[str, Any]) -> Measure:
    """The measure in a config.json or result.json: perplexity where an earlier version left it out.

    Args:
      settings: checked by `lsh_jax.report.values` where they come from a stranger.
    """
    found = settings.get("measure")
    if found is None:
        return PERPLEXITY
    return Measure(**{name: found[name] for name in Measure._fields if name in found})
