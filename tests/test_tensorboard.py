import struct
import sys

import pytest

from lsh_jax.config import ConfigError, SparsityConfig
from lsh_jax.search.ledger import Ledger, Record
from lsh_jax.search.measure import NLL, Measure
from lsh_jax.tensorboard import tensorboard_listener

CONTROLS = SparsityConfig(death_rate=0.7, update_every=float("inf")).to_json()


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("tensorboardX")


def record(trial=0, epoch=1, **values):
    own = {"train_nll": 6.0, "val_nll": 5.0, "val_perplexity": 148.0, "ls_distance": 0.5}
    own |= {"score": 0.5, "churn": 0.1, "nonzeros": 300, "wall_s": 2.0}
    controls = CONTROLS if isinstance(trial, int) else {}
    return Record(trial, epoch, 0, controls, 1, **(own | values))


def events(folder):
    """Whole events of a folder's files, oldest file first: framed as length, CRC, bytes, CRC."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("*tfevents*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder):
    """(tag, step) -> value, none of them twice."""
    pairs = [
        ((value.tag, event.step), value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if not value.HasField("metadata")
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def steps(folder):
    return [step for tag, step in scalars(folder) if tag == "validation/nll"]


def hparams(folder):
    """The controls and the status of a session; None without."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    parts = {
        value.tag.removeprefix("_hparams_/"): HParamsPluginData.FromString(
            value.metadata.plugin_data.content
        )
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("metadata")
    }
    if not parts:
        return None
    metrics = [info.name.tag for info in parts["experiment"].experiment.metric_infos]
    own = parts["session_start_info"].session_start_info.hparams
    values = {name: value.string_value or value.number_value for name, value in own.items()}
    return values, metrics, parts["session_end_info"].session_end_info.status


def test_an_epoch_is_on_disk_when_the_listener_returns(tmp_path):
    with tensorboard_listener(tmp_path) as listener:
        listener("record", {"record": record(epoch=3, val_perplexity=None, churn=None)})
        assert scalars(tmp_path / "0") == {
            ("train/nll", 3): 6.0,
            ("validation/nll", 3): 5.0,
            ("lyapunov/ls_distance", 3): 0.5,
            ("topology/nonzeros", 3): 300.0,
            ("time/wall_s", 3): 2.0,
        }
        listener("record", {"record": record("dense")})
        assert ("validation/perplexity", 1) in scalars(tmp_path / "dense")


def test_a_candidate_that_is_cut_has_its_controls_and_what_it_came_to(tmp_path):
    with tensorboard_listener(tmp_path) as listener:
        for epoch, perplexity, distance in ((1, 130.0, 0.25), (2, 140.0, 0.75)):
            values = {"val_perplexity": perplexity, "ls_distance": distance, "score": distance}
            for trial in (0, 1):
                listener("record", {"record": record(trial, epoch, **values)})
        listener("round", {"round": 0, "entered": [0, 1], "failed": [], "survivors": [1]})
        assert hparams(tmp_path / "1") is None
        own, metrics, status = hparams(tmp_path / "0")
        assert own["death_rate"] == 0.7 and own["update_every"] == "inf" and status == 1
        found = scalars(tmp_path / "0")
        assert [found[metric, 2] for metric in metrics] == [130.0, 0.75, 0.75]
    assert hparams(tmp_path / "1") is not None  # a finalist, when all is done


def test_tags_are_those_of_the_measure_of_the_task(tmp_path):
    with tensorboard_listener(tmp_path, measure=Measure("rms", 0.02)) as listener:
        listener("record", {"record": record()})
    tags = {tag for tag, _ in scalars(tmp_path / "0")}
    assert {"validation/rms_error", "validation/nll", "final/best_val_rms_error"} <= tags
    assert not any("perplexity" in tag for tag in tags)
    assert scalars(tmp_path / "0")["validation/rms_error", 1] == pytest.approx(0.05714, rel=1e-3)
    with tensorboard_listener(tmp_path / "nll", measure=NLL) as listener:
        listener("record", {"record": record()})
    assert scalars(tmp_path / "nll" / "0")["final/best_val_nll", 1] == 5.0


def test_a_candidate_that_fails_has_failed_in_the_table_too(tmp_path):
    nothing = dict.fromkeys(("val_nll", "val_perplexity", "ls_distance", "score"))
    with tensorboard_listener(tmp_path) as listener:
        listener("record", {"record": record(status="failed", reason="nan", **nothing)})
        _, metrics, status = hparams(tmp_path / "0")
    assert status == 2  # STATUS_FAILURE
    assert not set(metrics) & {tag for tag, _ in scalars(tmp_path / "0")}


def test_an_interrupted_search_has_no_ends(tmp_path):
    with pytest.raises(KeyboardInterrupt), tensorboard_listener(tmp_path) as listener:
        listener("record", {"record": record()})
        raise KeyboardInterrupt
    assert hparams(tmp_path / "0") is None and steps(tmp_path / "0") == [1]


def test_repeats_and_unknown_events_are_not_written(tmp_path):
    with tensorboard_listener(tmp_path) as listener:
        listener("record", {"record": record(duplicate_of=3)})
        listener("a kind of later years", {})
    assert not list(tmp_path.iterdir())


def test_a_perplexity_beyond_float32_is_left_out(tmp_path):
    with tensorboard_listener(tmp_path) as listener:
        listener("record", {"record": record(val_perplexity=1e200)})
    assert ("validation/perplexity", 1) not in scalars(tmp_path / "0")


def test_a_run_that_is_resumed_has_no_step_twice(tmp_path):
    run, board = tmp_path / "run", tmp_path / "board"
    ledger = Ledger(run / "trials.jsonl")
    Ledger(run / "tuning" / "trials.jsonl").append(record(2))

    def trained(listener, *own):
        ledger.append(record(*own))
        listener("record", {"record": record(*own)})

    for epochs in ((1, 2), (3,), (4,)):
        with pytest.raises(KeyboardInterrupt), tensorboard_listener(board, run) as listener:
            for epoch in epochs:
                trained(listener, 0, epoch)
            raise KeyboardInterrupt
    (board / "0" / "events.out.tfevents.1.of-another").touch()
    with tensorboard_listener(board, run) as listener:
        trained(listener, 0, 5)
    assert steps(board / "0") == [1, 2, 3, 4, 5]
    assert steps(board / "tuning-2") == [1]
    assert hparams(board / "0") is not None and hparams(board / "tuning-2") is None
    assert (board / "0" / "events.out.tfevents.1.of-another").exists()


def test_a_dense_network_that_was_interrupted_goes_on_in_order(tmp_path):
    run, board = tmp_path / "run", tmp_path / "board"
    with pytest.raises(KeyboardInterrupt), tensorboard_listener(board, run) as listener:
        listener("record", {"record": record("dense", 1)})
        raise KeyboardInterrupt
    with tensorboard_listener(board, run) as listener:
        listener("record", {"record": record("dense", 2)})
        assert steps(board / "dense") == [1, 2]
        for epoch in (1, 2):  # it is done and adopted by the run
            Ledger(run / "trials.jsonl").append(record("dense", epoch))
        listener("record", {"record": record(0)})
        assert steps(board / "dense") == [1, 2]
    with tensorboard_listener(board) as listener:
        listener("record", {"record": record("dense", 1)})  # from the start, for whatever reason
    assert steps(board / "dense") == [1]


def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(ConfigError, match=r'pip install "lsh-jax\[tensorboard\]"'),
        tensorboard_listener(tmp_path),
    ):
        pass
