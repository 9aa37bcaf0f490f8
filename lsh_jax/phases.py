"""The phases of a search before it starts: who enters them, for how long, in how many waves."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lsh_jax.config import SearchConfig
from lsh_jax.presets import Settings
from lsh_jax.search.successive_halving import plan
from lsh_jax.search.tuning import is_tuned, tuning_config

_HEADS = ("round", "entering", "epochs each", "epochs trained", "share")


class Phase(NamedTuple):
    """Networks that are trained from one epoch to another."""

    name: str
    kind: Literal["tuning", "dense", "pool", "round"]
    entering: int
    before: int  # epochs of each when it begins
    epochs: int  # of each in all when it ends

    @property
    def trained(self) -> int:
        """Epochs that are trained in it."""
        return self.entering * (self.epochs - self.before)


def phases(settings: Settings) -> list[Phase]:
    """The phases of a search in which no network fails or ends early, in the order of time.

    Args:
      settings: the search.

    Returns:
      Those of the dense network's tuning and training, none of a dense network that is given, then
      the pool, the rounds of halving and the finals.
    """
    config = settings.search()
    own = _phases(config)
    if settings.dense:
        return own
    tuned = is_tuned(config)
    tuning = _phases(tuning_config(config)) if tuned else []
    before = [phase._replace(name=f"tuning, {phase.name}", kind="tuning") for phase in tuning]
    num_dense = config.dense_seeds - tuned  # the run that the tuning chooses is the first
    if num_dense:
        before.append(Phase("dense", "dense", num_dense, 0, config.final_epochs))
    return before + own


def _phases(config: SearchConfig) -> list[Phase]:
    rounds = plan(config)
    found, before = [], 0
    for number, (entering, epochs) in enumerate(rounds):
        name = str(number) if number else "0, the pool"
        found.append(Phase(name, "round" if number else "pool", entering, before, epochs))
        before = epochs
    finals = Phase("finals", "round", rounds[-1].num_entering, before, config.final_epochs)
    return [*found, finals] if finals.trained else found


def epochs_in_turn(steps: Sequence[Phase], workers: int, ask_batch: int) -> int:
    """Epochs that must follow one another when `workers` networks train at a time.

    Of n networks that may, ceil(n / workers) waves do. The dense networks are trained one after
    another, and the pool waits for the scores of every `ask_batch` candidates before it asks for
    more; that of the tuning as well.

    Args:
      steps: from `phases`.
      workers: at least 1.
      ask_batch: of the search.
    """
    return sum(_waves(phase, workers, ask_batch) * (phase.epochs - phase.before) for phase in steps)


def _waves(phase: Phase, workers: int, ask_batch: int) -> int:
    if phase.kind == "dense":
        return phase.entering
    batch = phase.entering
    if phase.before == 0:  # a pool
        batch = min(ask_batch, phase.entering)
    whole, rest = divmod(phase.entering, batch)
    return whole * -(-batch // workers) + -(-rest // workers)


def describe_phases(steps: Sequence[Phase]) -> str:
    """A table of the phases and their shares of all epochs, as text of several lines."""
    total = sum(phase.trained for phase in steps)
    rows = [
        (phase.name, phase.entering, phase.epochs, f"{phase.trained:,}", _percent(phase, total))
        for phase in steps
    ]
    lines = [_HEADS, *rows, ("total", "", "", f"{total:,}", "100 %")]
    texts = [[str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(_aligned(line, widths) for line in texts)


def _percent(phase: Phase, total: int) -> str:
    return f"{100 * phase.trained / total:.1f} %"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell to the left, numbers to the right."""
    first, *others = zip(cells, widths, strict=True)
    return "  ".join(["  " + first[0].ljust(first[1]), *(cell.rjust(n) for cell, n in others)])
