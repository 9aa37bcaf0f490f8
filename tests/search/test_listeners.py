"""What listeners are told of a whole search, against what its ledger says."""

import io
import struct

import pytest

from lsh_jax.progress import both, progress
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.tensorboard import tensorboard_listener


def steps(folder):
    """Of the validation nll, in the order of the files: framed as length, CRC, bytes, CRC."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("*tfevents*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            found += [event.step for value in event.summary.value if value.tag == "validation/nll"]
    return found


@pytest.mark.parametrize("rates", [(), (1.0, 2.0)])
def test_a_search_is_written_for_tensorboard_as_its_ledger_has_it(
    toy_task, search_config, tmp_path, rates
):
    """Twice the same: the second finds the dense network in the cache, and is told of none."""
    pytest.importorskip("tensorboardX")
    space = search_config().space
    for name in ("first", "second"):
        run, stream = tmp_path / name, io.StringIO()
        with (
            progress(60, 2, None, stream) as lines,
            tensorboard_listener(run / "tensorboard", run) as board,
        ):
            hyperprune(
                toy_task(),
                search_config(space=type(space)(**(vars(space) | {"learning_rate": rates}))),
                out=run,
                cache_dir=tmp_path / "cache",
                on_event=both(lines, board),
            )
        ledger = Ledger(run / "trials.jsonl")
        trained = {found.trial for found in ledger.records() if found.duplicate_of is None}
        for trial in trained:
            epochs = [found.epoch for found in ledger.history(trial)]
            assert steps(run / "tensorboard" / str(trial)) == epochs
        tuned = {path.name for path in (run / "tensorboard").glob("tuning-*")}
        assert len(tuned) == len(rates)
        assert {path.name for path in (run / "tensorboard").iterdir()} - tuned == set(
            map(str, trained)
        )
        assert "[60/60]" not in stream.getvalue() and "Round 0" in stream.getvalue()
