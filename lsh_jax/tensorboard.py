"""Writes a search for TensorBoard while it runs: curves of every network, and a table of HParams.

tensorboardX writes the files. Its `SummaryWriter` is left alone: it names a file by the second, so
that the HParams of a run, begun in the same second, overwrite its curves, and hands events to a
thread that `flush` does not wait for. Its `EventsWriter` below writes at once.
"""

import contextlib
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lsh_jax.config import ConfigError
from lsh_jax.progress import Listener, records_so_far
from lsh_jax.search.ledger import Record, TrialId
from lsh_jax.search.measure import PERPLEXITY, Measure

_SUFFIX = ".lsh_jax"  # of the files written here: others in the directory are never touched
_LARGEST = 3e38  # of the float32 of an event
_SCALARS = {
    "train/nll": "train_nll",
    "validation/nll": "val_nll",
    "lyapunov/ls_distance": "ls_distance",
    "topology/churn": "churn",
    "topology/nonzeros": "nonzeros",
    "time/wall_s": "wall_s",
}  # tag -> field of a record; that of the measure is made of its name


@contextlib.contextmanager
def tensorboard_listener(
    directory: pathlib.Path | str,
    run: pathlib.Path | str | None = None,
    *,
    measure: Measure = PERPLEXITY,
) -> Iterator[Listener]:
    """Writes the events of `hyperprune` below `directory`, one folder a network.

    Every epoch is a step, on disk when the listener returns. A candidate's controls, with its best
    validation and its last LS distance and score, are written as HParams when it is cut, fails, or
    the block ends. Repeats of a configuration are left out; trials of the dense network's
    tuning, whose controls are others, have curves and no HParams.

    What listeners are not told is taken from the ledgers of the run: at the start the records of a
    run that is resumed, and before the first candidate the dense networks that came from a cache.
    A network's files are written anew then, so that its steps are in order and none is there twice.

    Args:
      directory: for the folders, say `run / "tensorboard"`.
      run: the run directory; without, only what the listener is told is written.
      measure: of the task; "validation/perplexity" is called after it.

    Yields:
      The listener to hand to `hyperprune`.

    Raises:
      ConfigError: when tensorboardX is not installed.
    """
    _check_installed()
    board = _Board(pathlib.Path(directory), measure)
    told_of_candidates = False
    if run is not None:
        board.complete(records_so_far(pathlib.Path(run)))

    def listener(kind: str, values: Mapping[str, Any]) -> None:
        nonlocal told_of_candidates
        if kind == "record":
            record: Record = values["record"]
            if run is not None and isinstance(record.trial, int) and not told_of_candidates:
                told_of_candidates = True
                board.complete(records_so_far(pathlib.Path(run)))
            board.add(record)
        elif kind == "round" and not values.get("tuning"):
            for trial in values["entered"]:
                if trial not in values["survivors"]:
                    board.end(trial)

    try:
        yield listener
        board.end_all()
    finally:
        board.close()


def _check_installed() -> None:
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "`tensorboard` needs tensorboardX, which is not installed: "
            'pip install "lsh-jax[tensorboard]".'
        ) from error


class _Board:
    """What has been written of every network, and the open file of each that is in play."""

    def __init__(self, directory: pathlib.Path, measure: Measure) -> None:
        self._directory = directory
        self._measure = measure
        self._records: dict[TrialId, dict[int, Record]] = {}  # by epoch
        self._writers: dict[TrialId, Any] = {}
        self._ended: set[TrialId] = set()

    def complete(self, records: Iterable[Record]) -> None:
        """Writes the networks anew of which one of the records is not written."""
        by_trial: dict[TrialId, list[Record]] = {}
        for record in records:
            by_trial.setdefault(record.trial, []).append(record)
        for trial, history in by_trial.items():
            if not {record.epoch for record in history} <= self._records.get(trial, {}).keys():
                self._forget(trial)
                for record in sorted(history, key=lambda record: record.epoch):
                    self.add(record)

    def add(self, record: Record) -> None:
        """Writes an epoch, unless it is written or repeats another trial's."""
        known = self._records.get(record.trial, {})
        if record.duplicate_of is not None or record.epoch in known:
            return
        if record.epoch == 1:
            self._forget(record.trial)
        self._records.setdefault(record.trial, {})[record.epoch] = record
        values = {tag: getattr(record, field) for tag, field in _SCALARS.items()}
        values[f"validation/{_tag(self._measure)}"] = self._measure.of_record(record)
        self._write(record.trial, record.epoch, _summaries(values))
        if record.status == "failed":
            self.end(record.trial)

    def end(self, trial: TrialId) -> None:
        """Writes the HParams of a candidate, once, and closes its file."""
        history = [record for _, record in sorted(self._records.get(trial, {}).items())]
        if not history or trial in self._ended or not isinstance(trial, int):
            return
        self._ended.add(trial)
        self._write(trial, history[-1].epoch, _hparams(history, self._measure))
        self._writers.pop(trial).close()

    def end_all(self) -> None:
        """Writes the HParams of the candidates that are left."""
        for trial in list(self._records):
            self.end(trial)

    def close(self) -> None:
        """Closes all files."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _forget(self, trial: TrialId) -> None:
        """Removes what was written of a network, here or by a process before."""
        if trial in self._writers:
            self._writers.pop(trial).close()
        self._records.pop(trial, None)
        self._ended.discard(trial)
        for path in (self._directory / str(trial)).glob(f"*{_SUFFIX}"):
            path.unlink()

    def _write(self, trial: TrialId, step: int, summaries: Iterable[Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event

        writer = self._writers.get(trial) or self._open(trial)
        for summary in summaries:
            writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()

    def _open(self, trial: TrialId) -> Any:
        from tensorboardX.event_file_writer import EventsWriter

        folder = self._directory / str(trial)
        folder.mkdir(parents=True, exist_ok=True)
        # Finer than the second in the name: what goes on in the same one writes no file over.
        suffix = f".{time.time_ns()}{_SUFFIX}"
        self._writers[trial] = EventsWriter(str(folder / "events"), filename_suffix=suffix)
        return self._writers[trial]


def _summaries(values: Mapping[str, float | None]) -> Iterator[Any]:
    """A scalar for every value that there is."""
    from tensorboardX.summary import scalar

    for tag, value in values.items():
        if value is not None and abs(value) < _LARGEST:
            yield scalar(tag, value)


def _hparams(history: list[Record], measure: Measure) -> Iterator[Any]:
    """The controls of a candidate and what it came to, for the HParams of TensorBoard."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboardX.summary import hparams

    controls = {name: _plain(name, value) for name, value in history[-1].controls.items()}
    metrics = (f"final/best_val_{_tag(measure)}", "final/last_ls_distance", "final/last_score")
    experiment, start, end = hparams(controls, dict.fromkeys(metrics, 0.0))
    if history[-1].status == "failed":
        failure = SessionEndInfo(status=Status.Value("STATUS_FAILURE"))
        data = HParamsPluginData(session_end_info=failure, version=0)
        end.value[0].metadata.plugin_data.content = data.SerializeToString()
    yield from (experiment, start, end)
    measured = [value for r in history if (value := measure.of_record(r)) is not None]
    distances = [r.ls_distance for r in history if r.ls_distance is not None]
    scores = [r.score for r in history if r.score is not None]
    found = (
        min(measured, default=None),
        *(own[-1] if own else None for own in (distances, scores)),
    )
    yield from _summaries(dict(zip(metrics, found, strict=True)))


def _tag(measure: Measure) -> str:
    return measure.name.replace(" ", "_")


def _plain(name: str, value: Any) -> Any:
    """A control as HParams can hold it: there is no infinite number in JSON, so that is a word."""
    return str(value) if name == "update_every" else value
