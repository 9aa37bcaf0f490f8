"""A task without a network: what a candidate reaches is a formula of its controls."""

import math
import os
import pathlib
import resource
import signal
import time

import jax.numpy as jnp
import numpy as np

from lsh_jax.config import ConfigError
from lsh_jax.search.measure import PERPLEXITY
from lsh_jax.search.task import Task, TrainInfo
from lsh_jax.types import Hyper

SEGMENTS = 2


def toy_nll(death: int, rate: float, epoch: float, learning_rate: float = 1.0) -> float:
    """Falls with the epochs; which controls are better turns round after epoch 2.

    The learning rate adds to it, 0 at 1 and 4, -0.05 at 2, the best, and 0.05 at 8.
    """
    handicap = abs(rate - 0.6) + 0.1 * death
    recipe = 0.05 * (abs(math.log2(learning_rate) - 1) - 1)
    return 1.0 + (handicap if epoch <= 2 else 0.7 - handicap) + math.exp(-epoch) + recipe


def nll_of(state) -> float:
    death, rate, recipe = (float(state[name]) for name in ("death", "rate", "learning_rate"))
    return toy_nll(int(death), rate, float(state["segments"]) / SEGMENTS, recipe)


def make_task(fails=None, seed=0, trained=None, measure=PERPLEXITY):
    """`fails(controls, epoch)`, called in every segment, may return a value that spoils the nll."""

    def init(key, controls, hyper):
        del key
        rate = jnp.where(jnp.isinf(controls.update_every), 0.6, controls.death_rate)
        state = {"segments": jnp.int32(0), "death": controls.death, "rate": rate}
        return state | {
            "weights": jnp.ones(5),
            "learning_rate": jnp.float32(hyper.learning_rate),
        }

    def train(state, controls, hyper, num_segments):
        assert float(hyper.learning_rate) == float(state["learning_rate"])
        segments = int(state["segments"]) + num_segments
        epoch = -(-segments // SEGMENTS)
        if trained is not None and num_segments and segments % SEGMENTS == 0:
            own = (int(state["death"]), round(float(state["rate"]), 3))
            dense = math.isinf(float(controls.update_every))
            trained.append(("dense" if dense else own, epoch))
        bad = None
        if fails is not None and not math.isinf(float(controls.update_every)):
            bad = fails(controls, epoch)
        if isinstance(bad, Exception):
            raise bad
        state = state | {"segments": jnp.int32(segments)}
        nll = nll_of(state) if bad is None else bad
        return state, TrainInfo(nll * num_segments, num_segments, 0.1, num_segments, 3)

    def evaluate(state, split):
        del split
        return nll_of(state)

    def block_nll(state, split):
        blocks = np.arange(8) % 3 + evaluate(state, split) * 10
        return blocks.astype(float), np.full(8, 10.0)

    def spectrum(state):
        level = evaluate(state, "validation") + 0.01 * seed
        return np.array([[-level, -2 * level]]), np.full((1, 2), 0.01)

    def save(state, path):
        path.mkdir(parents=True, exist_ok=True)
        np.save(path / "weights.npy", np.asarray(state["weights"]))

    return Task(
        init=init,
        train=train,
        evaluate=evaluate,
        block_nll=block_nll,
        spectrum=spectrum,
        fingerprint=lambda: f'{{"toy": 1, "seed": {seed}}}',
        segments_per_epoch=SEGMENTS,
        hyper=Hyper(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        with_seed=lambda other: make_task(fails, other, trained, measure),
        save=save,
        baseline_nll={"validation": 3.0, "test": 3.1},
        measure=measure,
    )


def refuse():
    """In place of a task: what a worker without the data says."""
    raise ConfigError("`data` must be there.")


def make_slowly():
    """A task that takes a minute to make."""
    time.sleep(60)
    return make_task()


def harm(controls, epoch, *, folder, how, rate=0.7, at=2, times=1):
    """A `fails` that does something bad to the process in an epoch of candidates of one rate.

    Args:
      controls: the candidate's.
      epoch: under way.
      folder: counts how often it has been done.
      how: kill, exit, hang, raise or memory.
      rate: death rate of the candidates.
      at: the epoch.
      times: after which it is done no more.
    """
    if abs(float(controls.death_rate) - rate) > 1e-3 or epoch != at:
        return None
    done = len(list(pathlib.Path(folder).iterdir()))
    if done >= times:
        return None
    (pathlib.Path(folder) / str(done)).touch()
    return _HARMS[how]()


def _hang():
    time.sleep(600)


def _take_all_memory():
    resource.setrlimit(resource.RLIMIT_AS, (2**33, resource.RLIM_INFINITY))
    try:
        np.ones(2**36)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


_HARMS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "hang": _hang,
    "raise": lambda: RuntimeError("its own fault"),
    "memory": _take_all_memory,
}
