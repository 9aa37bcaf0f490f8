"""A configuration as arrays, and what it needs to be followed."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import (
    ConfigError,
    Sampling,
    SparsityConfig,
    SparsitySchedule,
    check,
    choices,
)
from lsh_jax.sparsity import allocation, death, growth, redistribution, schedules
from lsh_jax.sparsity.layout import Scope
from lsh_jax.types import Array, Params


class Controls(NamedTuple):
    """A `SparsityConfig` as arrays, to be traced, or stacked and vmapped.

    Modes are indices into the tables of rules.
    """

    density: Array  # at the end, numerator and denominator, int32 [2]
    init: Array  # int32 scalar
    init_sampling: Array  # int32 scalar
    death: Array  # int32 scalar
    growth: Array  # int32 scalar
    redistribution: Array  # int32 scalar
    schedule: Array  # int32 scalar
    sparsity_schedule: Array  # int32 scalar
    death_rate: Array  # float32 scalar in [0, 1], before the schedule
    rate_floor: Array  # float32 scalar in [0, 1], where the schedule ends
    threshold_init: Array  # float32 scalar
    exclude_dropped: Array  # bool scalar
    horizon: Array  # updates over which the schedules run, int32 scalar
    freezes: Array  # bool scalar: the topology stays as it is from then on
    update_every: Array  # epochs, float32 scalar; for the training loop, unused here


MODES: dict[str, Sequence[str]] = {
    "init": allocation.MODES,
    "init_sampling": choices(Sampling),
    "death": tuple(death.RULES),
    "growth": tuple(growth.RULES),
    "redistribution": tuple(redistribution.RULES),
    "schedule": tuple(schedules.RULES),
    "sparsity_schedule": choices(SparsitySchedule),
}


def controls(config: SparsityConfig) -> Controls:
    """Turns a configuration into arrays.

    Rates are read to six decimals; the density as the nearest fraction, see
    `allocation.density_fraction`.
    """
    modes = {name: jnp.int32(table.index(getattr(config, name))) for name, table in MODES.items()}
    horizon = max(1, round(config.stop_fraction * config.horizon))
    return Controls(
        density=jnp.array(allocation.density_fraction(config.sparsity), jnp.int32),
        death_rate=jnp.float32(config.death_rate),
        rate_floor=jnp.float32(config.rate_floor),
        threshold_init=jnp.float32(config.threshold_init),
        exclude_dropped=jnp.bool_(config.exclude_dropped),
        horizon=jnp.int32(min(horizon, 2**31 - 1)),
        freezes=jnp.bool_(config.stop_fraction < 1),
        update_every=jnp.float32(config.update_every),
        **modes,
    )


# What a mode cannot do without: (control, mode) -> the argument that provides it.
NEEDS = {
    ("growth", "gradient"): "gradients",
    ("redistribution", "gradient"): "gradients",
    ("death", "taylor"): "gradients",
    ("growth", "momentum"): "momentum",
    ("redistribution", "momentum"): "momentum",
}


def check_update(controls: Controls, scope: Scope, **given: Params | None) -> None:
    """Raises a `ConfigError` where concrete controls ask an update for what it does not get."""
    _check_type(controls)
    for (control, mode), argument in NEEDS.items():
        if given[argument] is None and _may_be(controls, control, mode):
            raise ConfigError(
                f"`{argument}` must be given for {control} by {mode}, got None: call "
                f"update(..., {argument}=...)."
            )
    check_scope(controls, scope)


def check_scope(controls: Controls, scope: Scope) -> None:
    """Raises a `ConfigError` where concrete controls do not go with `dynamic_sparsity`'s."""
    _check_type(controls)
    if not scope.track_signs and _may_be(controls, "death", "sign_flip"):
        raise ConfigError(
            "`death` sign_flip needs the signs of the weights, got track_signs=False: build the "
            "updater by dynamic_sparsity(track_signs=True)."
        )
    if scope.densities is None and _may_be(controls, "init", allocation.GIVEN):
        raise ConfigError(
            "`init` given needs densities of the leaves, got None: build the updater by "
            "dynamic_sparsity(densities=...)."
        )
    if scope.gates is None and _may_be(controls, "growth", "random_gates"):
        raise ConfigError(
            "`growth` random_gates needs the gates of the leaves, got gates=None: build the "
            "updater by dynamic_sparsity(gates=...)."
        )
    if scope.pattern is not None:
        _check_pattern(controls, scope)
    if jnp.ndim(controls.death) > 0:
        raise ConfigError(
            f"`controls` must be of one configuration, got {jnp.shape(controls.death)} of them: "
            "stacked ones need jax.vmap."
        )


def _check_type(controls: Controls) -> None:
    name = type(controls).__name__
    check(isinstance(controls, Controls), "controls", "come from `sparsity.controls(config)`", name)


def _check_pattern(controls: Controls, scope: Scope) -> None:
    """N:M fixes all counts, so the controls may not ask for others."""
    assert scope.pattern is not None
    if _may_be(controls, "init_sampling", "bernoulli"):
        raise ConfigError(
            f"`init_sampling` must be exact or magnitude with granularity={scope.granularity}."
        )
    for control, only in (
        ("init", "uniform"),
        ("redistribution", "none"),
        ("sparsity_schedule", "constant"),
    ):
        others = [mode for mode in MODES[control] if mode != only]
        if any(_may_be(controls, control, mode) for mode in others):
            raise ConfigError(
                f"`{control}` must be {only} with granularity={scope.granularity}, which fixes "
                f"the number of live weights of every block: set {control}={only!r}."
            )
    if isinstance(controls.density, jax.core.Tracer):
        return
    live, size = scope.pattern
    numerator, denominator = np.moveaxis(np.asarray(controls.density, np.int64), -1, 0)
    if np.any(numerator * size != denominator * live):
        raise ConfigError(
            f"`sparsity` must be {1 - live / size:g} with granularity={scope.granularity}, got "
            f"{1 - np.max(numerator / denominator):g}."
        )


def _may_be(controls: Controls, control: str, mode: str) -> bool:
    """Whether a control, or one of several stacked, is known to have a mode; False if traced."""
    value = getattr(controls, control)
    if isinstance(value, jax.core.Tracer):
        return False
    return bool(np.any(np.asarray(value) == MODES[control].index(mode)))
