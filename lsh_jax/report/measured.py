"""How well the networks of a search did, as its measure tells it, from result.json."""

from collections.abc import Mapping
from typing import Any, Literal

from lsh_jax.search.measure import Measure
from lsh_jax.search.task import Split

_UNIGRAM = {"validation": "unigram_perplexity", "test": "unigram_test_perplexity"}


def of_network(
    measure: Measure, network: Mapping[str, Any], split: Literal["val", "test"]
) -> float | None:
    """The value of the dense network or the winner.

    Args:
      measure: of the run; runs of earlier versions have perplexities and no nll.
      network: "dense" or "best" of result.json.
      split: which it is of.
    """
    if measure.kind == "perplexity":
        value: float | None = network.get(f"{split}_perplexity")
        return value
    return measure.of(network.get(f"{split}_nll"))


def of_baseline(measure: Measure, result: Mapping[str, Any], split: Split) -> float | None:
    """The value of the baseline, where there is one."""
    if measure.kind == "perplexity":
        value: float | None = result.get(_UNIGRAM[split])
        return value
    return measure.of(result.get("baseline_nll", {}).get(split))
