import dataclasses

import pytest

from lsh_jax.config import SpaceConfig
from lsh_jax.estimate import total_epochs
from lsh_jax.phases import describe_phases, epochs_in_turn, phases
from lsh_jax.presets import PRESETS

SETTINGS = dataclasses.replace(PRESETS["quick"], max_evals=12, final_epochs=12)  # e0=4, ei=1
TUNED = dataclasses.replace(SETTINGS, space=SpaceConfig(learning_rate=(1.0, 2.0, 4.0)))


def changed(settings, **changes):
    return dataclasses.replace(settings, **changes)


def test_the_phases_are_the_dense_network_the_pool_its_rounds_and_the_finals():
    found = [(phase.name, *phase[2:], phase.trained) for phase in phases(SETTINGS)]
    assert found == [
        ("dense", 1, 0, 12, 12),
        ("0, the pool", 12, 0, 4, 48),
        ("1", 6, 4, 5, 6),
        ("2", 3, 5, 6, 3),
        ("3", 2, 6, 7, 2),
        ("finals", 2, 7, 12, 10),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        changed(SETTINGS, dense_seeds=3),
        changed(SETTINGS, dense="run"),
        changed(SETTINGS, final_epochs=7),  # no finals: the last round is the end
        TUNED,
        changed(TUNED, dense_seeds=2),
        *PRESETS.values(),
    ],
)
def test_the_phases_sum_to_all_epochs(settings):
    steps = phases(settings)
    assert sum(phase.trained for phase in steps) == total_epochs(settings)
    assert all(phase.trained > 0 for phase in steps)
    assert epochs_in_turn(steps, 1, settings.ask_batch) == total_epochs(settings)


def test_a_tuned_dense_network_is_among_the_trials_of_its_tuning():
    names = [phase.name for phase in phases(TUNED)]
    assert names[0] == "tuning, 0, the pool" and "dense" not in names
    assert "dense" in [phase.name for phase in phases(changed(TUNED, dense_seeds=2))]


@pytest.mark.parametrize(
    ("workers", "ask_batch", "turns"),
    [
        # Dense 12; the pool three batches of 4 epochs; two waves of one epoch, then one each.
        (4, 4, 12 + 3 * 4 + 2 + 1 + 1 + 5),
        (8, 4, 12 + 3 * 4 + 1 + 1 + 1 + 5),  # no more than four are asked for at a time
        (5, 12, 12 + 3 * 4 + 2 + 1 + 1 + 5),
        (2, 5, 12 + (3 + 3 + 1) * 4 + 3 + 2 + 1 + 5),  # batches of 5, 5 and 2
        (100, 100, 12 + 4 + 1 + 1 + 1 + 5),
    ],
)
def test_workers_take_a_phase_in_waves(workers, ask_batch, turns):
    assert epochs_in_turn(phases(SETTINGS), workers, ask_batch) == turns


def test_the_table_is_aligned_and_shares_sum_to_all():
    lines = describe_phases(phases(TUNED)).splitlines()
    assert len({len(line) for line in lines}) == 1
    shares = [float(line.split()[-2]) for line in lines[1:-1]]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))
