"""How many live weights each leaf has: at the start, and on the way down from dense."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsh_jax.sparsity.proportion import apportion, mul_div
from lsh_jax.types import Array

_DENOMINATOR = 2**31 - 1  # of densities as fractions of int32 numbers

Shapes = Sequence[tuple[int, ...]]


def density_fraction(sparsity: float) -> tuple[int, int]:
    """Reads 1 - sparsity as the nearest fraction with a denominator below 2^31.

    1 - 0.67 is 0.32999999999999996 in floats; the fraction is the 33/100 that was meant, and
    int32 numbers can hold it.
    """
    fraction = Fraction(1 - sparsity).limit_denominator(_DENOMINATOR)
    return fraction.numerator, fraction.denominator


def num_live_weights(density: Array, num_weights: Array | int) -> Array:
    """Rounds density times number of weights to the nearest integer, halves to the even one.

    Args:
      density: numerator and denominator, int32 [2].
      num_weights: all prunable weights, below 2^31 - 1.

    Returns:
      The number K of live weights that every update keeps, an int32 scalar.
    """
    numerator, denominator = density[0], density[1]
    quotient, rest = mul_div(jnp.asarray(num_weights), numerator, denominator)
    twice, whole = 2 * rest, denominator.astype(jnp.uint32)
    odd = quotient % 2 == 1
    up = (twice > whole) | ((twice == whole) & odd)
    return quotient.astype(jnp.int32) + up.astype(jnp.int32)


def uniform(shapes: Shapes) -> list[int]:
    """Every leaf has the same density: weights n_l."""
    return [math.prod(shape) for shape in shapes]


def er(shapes: Shapes) -> list[int]:
    """Erdős–Rényi (SET, Mocanu et al. 2018): density eps (n_in + n_out) / (n_in n_out).

    n_in and n_out are the last two axes; a convolution's window repeats them. The authors find
    eps by trial until the expected count is within 5 of the budget and do not cap densities at 1,
    so that small leaves leave the network sparser than asked; here the closed form is shared out
    exactly by `apportion`, which caps.
    """
    return [math.prod(shape[:-2]) * sum(shape[-2:]) for shape in shapes]


def erk(shapes: Shapes) -> list[int]:
    """Erdős–Rényi kernel (RigL, Evci et al. 2020): density eps sum(dims) / prod(dims).

    The same as `er` but for leaves of more than two axes.
    """
    return [sum(shape) for shape in shapes]


RULES: dict[str, Callable[[Shapes], list[int]]] = {"uniform": uniform, "er": er, "erk": erk}
GIVEN = "given"  # the mode after those: counts from densities of the user
MODES = (*RULES, GIVEN)


def given_counts(shapes: Shapes, densities: Sequence[float]) -> list[int]:
    """Live weights per leaf for densities of the user, rounded by largest remainders."""
    quotas = [
        math.prod(shape) * Fraction(density).limit_denominator(_DENOMINATOR)
        for shape, density in zip(shapes, densities, strict=True)
    ]
    found = [math.floor(quota) for quota in quotas]
    spare = round(sum(quotas)) - sum(found)
    by_remainder = sorted(range(len(found)), key=lambda l: found[l] - quotas[l])
    for l in by_remainder[:spare]:
        found[l] += 1
    return found


class Allocation(NamedTuple):
    """How `total` live weights are shared out, for any total."""

    weights: Array  # int32 [L]
    sizes: Array  # int32 [L]
    total: Array  # where the counts end, int32 scalar

    def counts(self, total: Array) -> Array:
        """Live weights per leaf, int32 [L], of the sum `total`."""
        return apportion(total, self.weights, self.sizes)


def allocation(
    mode: Array, density: Array, shapes: Shapes, densities: Sequence[float] | None
) -> Allocation:
    """Gives the rule of `mode` as numbers.

    The authors draw each mask entry by itself, so that their counts are random (standard
    deviation sqrt(n d (1 - d))); ours are exact, and their sum is K.

    Args:
      mode: int32 scalar, index into `MODES`.
      density: numerator and denominator, int32 [2]; not read where the user's densities are.
      shapes: of the prunable leaves; nothing of their size is allocated.
      densities: of the prunable leaves, for the mode `given`; None where there are none, which
        makes it uniform.
    """
    sizes = [math.prod(shape) for shape in shapes]
    own = sizes if densities is None else given_counts(shapes, densities)
    weights = [rule(shapes) for rule in RULES.values()] + [own]
    total = num_live_weights(density, sum(sizes))
    if densities is not None:
        total = jnp.where(mode == MODES.index(GIVEN), sum(own), total)
    return Allocation(
        weights=jax.lax.select_n(mode, *[jnp.array(row, jnp.int32) for row in weights]),
        sizes=jnp.array(sizes, jnp.int32),
        total=total,
    )
