"""Chooses the device before JAX starts its backend, and says so plainly when it is not there."""

import pathlib
from typing import Literal

import jax

from lsh_jax.config import ConfigError

Accelerator = Literal["auto", "cpu", "gpu", "tpu"]

_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
_REMEDY = {
    "auto": "unset JAX_PLATFORMS",
    "cpu": "unset JAX_PLATFORMS",
    "gpu": 'install "lsh-jax[cuda12]" or "lsh-jax[cuda13]" on a machine with an NVIDIA GPU',
    "tpu": 'install "lsh-jax[tpu]" on a machine with a TPU',
}


def select_accelerator(accelerator: Accelerator) -> jax.Device:
    """Makes JAX compute on `accelerator`.

    JAX itself fails with an empty assertion, names another backend, or falls back to the CPU in
    silence, depending on what is missing; so the outcome is checked here.

    Args:
      accelerator: auto takes what JAX prefers.

    Returns:
      The first device.

    Raises:
      ConfigError: when the accelerator is not there.
    """
    if accelerator != "auto":
        jax.config.update("jax_platforms", _PLATFORMS[accelerator])
    reason = ""
    try:
        device = jax.devices()[0]
        if accelerator in ("auto", device.platform):
            return device
        reason = f"JAX offers {device.platform}"
    except (RuntimeError, AssertionError) as error:  # what the missing plugin happens to raise
        reason = str(error).split("\n")[0] or "JAX has no such backend"
    raise ConfigError(
        f"`accelerator` must be one that JAX can use, got {accelerator!r} ({reason}): "
        f"{_REMEDY[accelerator]}, or take --accelerator=cpu."
    )


def use_compile_cache(directory: pathlib.Path) -> None:
    """Keeps compiled programs in `directory`, so that the next run starts faster."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"`cache_dir` must be a directory that can be made, got {str(directory.parent)!r} "
            f"({error.strerror})."
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
