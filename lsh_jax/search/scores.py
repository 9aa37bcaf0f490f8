"""What a candidate is judged by: the distance of its spectrum, or one of the baselines' scores."""

import hashlib
import math
from typing import NamedTuple

import jax
import numpy as np

from lsh_jax.config import ConfigError, Metric, Reference
from lsh_jax.distance import count_floored, ls_distance, ls_distance_std_error
from lsh_jax.search.ledger import Record
from lsh_jax.search.space import candidate_seed, hyper


class Spectrum(NamedTuple):
    """Exponents and their standard errors."""

    exponents: np.ndarray  # [L, K]
    std_error: np.ndarray  # [L, K]


class Spectra(NamedTuple):
    """The spectra of a network after an epoch."""

    evaluated: Spectrum  # of the weights that were evaluated
    raw: Spectrum | None = None  # of the weights themselves, where averages were evaluated


def digest(spectra: Spectra) -> str:
    """A hash of all numbers of spectra, 16 hexadecimal digits."""
    found = hashlib.sha256()
    for spectrum in spectra:
        for array in spectrum or ():
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def alike(first: Spectra, second: Spectra) -> tuple[Spectrum, Spectrum]:
    """The spectra of two networks to compare: of averages where both average, else of weights.

    An average is nearer to the end of training than the weights it is taken of.
    """
    if first.raw is not None and second.raw is not None:
        return first.evaluated, second.evaluated
    return first.raw or first.evaluated, second.raw or second.evaluated


class Distance(NamedTuple):
    """How far a spectrum lies from the dense network's, under the names of the ledger."""

    ls_distance: float
    ls_std_error: float | None  # None where the spectra have no standard errors
    floored: int


def distance(candidate: Spectrum, dense: Spectrum) -> Distance:
    """The LS distance with its standard error and the number of floored exponents."""
    found, error, floored = _compare(candidate, dense)
    return Distance(float(found), float(error) if math.isfinite(error) else None, int(floored))


@jax.jit
def _compare(candidate: Spectrum, dense: Spectrum) -> tuple[jax.Array, jax.Array, jax.Array]:
    error = ls_distance_std_error(
        candidate.exponents, candidate.std_error, dense.exponents, dense.std_error
    )
    distance = ls_distance(candidate.exponents, dense.exponents)
    return distance, error, count_floored(candidate.exponents)


def reference_epoch(reference: Reference, epoch: int, val_nll: float, dense: list[Record]) -> int:
    """The epoch of the dense network that a candidate is compared with.

    Args:
      reference: same-epoch, final, or same-loss (the epoch whose validation nll is nearest).
      epoch: the candidate's.
      val_nll: the candidate's, in nats per token.
      dense: the records of the dense network.

    Raises:
      ConfigError: when the dense network has no such epoch; another never stands in for it.
    """
    if reference == "final":
        return dense[-1].epoch
    if reference == "same-loss":
        nearest = [(abs((r.val_nll or 0.0) - val_nll), r.epoch) for r in dense]
        return min(nearest)[1]
    if epoch not in {record.epoch for record in dense}:
        raise ConfigError(
            f"`reference` 'same-epoch' needs the dense network after epoch {epoch}; it has "
            f"epochs {dense[0].epoch} to {dense[-1].epoch}. Take --reference=final."
        )
    return epoch


def score(metric: Metric, record: Record) -> float:
    """What the search minimises for a record.

    ls: the LS distance; loss: the validation nll; death-rate: minus the death rate, a judge that
    looks at no network at all (0 for a static topology, where nothing dies); none: a number drawn
    from the candidate's seed and its own hyperparameters, i.e. chance.
    """
    if metric == "loss":
        assert record.val_nll is not None
        return record.val_nll
    if metric == "death-rate":
        is_static = record.controls["update_every"] == "inf"
        return 0.0 if is_static else -float(record.controls["death_rate"])
    if metric == "none":
        own = hyper(record.controls)
        entropy = [record.seed] + [candidate_seed(own, record.seed)] * bool(own)
        return float(np.random.default_rng(entropy).uniform())
    assert record.ls_distance is not None
    return record.ls_distance
