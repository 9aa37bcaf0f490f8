import pytest

from lsh_jax.pace import Pace, followed, search_time_left
from lsh_jax.search.ledger import Record


def ended(trial, wall_s=10.0, **values):
    return "record", {"record": Record(trial, 1, 0, {}, 0, wall_s=wall_s, **values)}


def started(trial):
    return "started", {"trial": trial, "epoch": 1}


def paced(*events):
    """After events of (seconds on the wall clock, (kind, values))."""
    pace = Pace()
    for now, (kind, values) in events:
        pace = followed(pace, kind, values, now)
    return pace


def test_one_after_another_is_a_median_epoch_for_each_that_is_left():
    pace = paced(
        *((0.0, started(0)), (100.0, ended(0, 100.0))),
        *((100.0, started(1)), (104.0, ended(1, 4.0))),
        *((104.0, ("a kind of later years", {})), (104.0, ended(2, 9.0, duplicate_of=1))),
    )
    assert search_time_left(pace, 10) == "about 40 s left"
    assert search_time_left(pace, 0) == "nothing left but the report"


@pytest.mark.parametrize(
    ("waves", "text"),
    [
        (0, "time left known after the next epoch"),
        (1, "about 5 min left"),  # two epochs in 60 s, which also compiled: 30 s each, 10 are left
        (2, "about 50 s left"),  # two in 10 s since
        (3, "about 50 s left"),
    ],
)
def test_side_by_side_the_wall_clock_tells_how_many_end_in_a_while(waves, text):
    events = []
    for wave in range(waves + 1):
        now = [0.0, 60.0, 70.0, 80.0][wave]
        own = [2 * wave, 2 * wave + 1]
        events += [(now, ended(trial - 2)) for trial in own if wave]
        events += [(now, started(trial)) for trial in own]
    assert search_time_left(paced(*events), 10) == text


def test_before_the_first_wave_has_ended_the_dense_network_tells():
    dense = [(0.0, ended("dense", 50.0)), (8.0, ended("dense", 8.0))]
    pace = paced(*dense, (8.0, started(0)), (8.0, started(1)))
    assert search_time_left(pace, 10) == "about 40 s left"  # five waves of 8 s
