"""The dense reference: trained once for a fingerprint, with its spectrum at every epoch."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lsh_jax.checkpoint import (
    CheckpointError,
    check_checkpoint,
    has_checkpoint,
    save_checkpoint,
)
from lsh_jax.config import ConfigError
from lsh_jax.search.epoch import LiveStates, load_state, run_epoch
from lsh_jax.search.ledger import Ledger, Record, best_epoch, has_ended
from lsh_jax.search.run_directory import (
    LEDGER,
    checkpoint_path,
    differences,
    keep_checkpoints,
    load_spectra,
    read_settings,
    save_spectra,
)
from lsh_jax.search.scores import Spectra, Spectrum, alike, distance
from lsh_jax.search.task import Task, TaskState
from lsh_jax.search.trial import DENSE, Candidate, Measurement, TaskFailure, make_record
from lsh_jax.sparsity import controls as make_controls

OnEvent = Callable[[str, Mapping[str, Any]], None]  # (kind of event, what it carries)


class SearchError(RuntimeError):
    """A search that cannot go on."""


class DenseReference(NamedTuple):
    """A dense network with its history."""

    records: list[Record]  # by epoch
    spectra: dict[int, Spectra]  # by epoch
    state: TaskState  # at its best epoch


def cached_directory(
    cache: pathlib.Path, task: Task, epochs: int, hyper: Mapping[str, float], least_epochs: int
) -> pathlib.Path:
    """Where the dense network of a task, with hyperparameters of its own, is kept between runs."""
    own: list[Any] = [dict(hyper)] if hyper else []
    if task.patience:  # then it rules where training ends
        own.append(least_epochs)
    text = json.dumps([task.fingerprint(), epochs, *own])
    return cache / "dense" / hashlib.sha256(text.encode()).hexdigest()[:24]


def train_dense(
    task: Task,
    epochs: int,
    seed: int,
    directory: pathlib.Path,
    on_event: OnEvent,
    hyper: Mapping[str, float],
    *,
    least_epochs: int = 0,
) -> DenseReference:
    """Trains the dense network, or as much of it as `directory` does not hold yet.

    Args:
      task: the task.
      epochs: in all, unless the task's patience ends training before.
      seed: recorded with every epoch.
      directory: for its ledger, spectra and checkpoints.
      on_event: told of segments and records.
      hyper: the hyperparameters that are not the task's; empty for none.
      least_epochs: that are trained whatever the task's patience.

    Returns:
      The reference.

    Raises:
      SearchError: when the dense network fails: nothing can be compared with it.
    """
    candidate = Candidate("dense", DENSE, seed, hyper)
    live: LiveStates = {}
    ledger = Ledger(directory / LEDGER)
    for epoch in range(len(ledger.history("dense")) + 1, epochs + 1):
        if has_ended(ledger.history("dense"), task.patience, least_epochs):
            on_event("notice", {"text": early_end(ledger.history("dense"))})
            break

        def on_segment(done: int, epoch: int = epoch) -> None:
            on_event("segment", {"trial": "dense", "epoch": epoch, "done": done})

        measured = run_epoch(task, directory, candidate, epoch, live, on_segment)
        for text in measured.notices:
            on_event("notice", {"text": text})
        if measured.failure is not None:
            reason = f"The dense network failed in epoch {epoch}: {measured.failure.rstrip('.')}."
            raise SearchError(" ".join(filter(None, (reason, _remedy(measured, hyper)))))
        assert measured.spectra is not None
        save_spectra(directory, "dense", epoch, measured.spectra)
        record = make_record(candidate, epoch, None, measured)
        ledger.append(record)
        keep_checkpoints(directory, "dense", {epoch, best_epoch(ledger.history("dense"))})
        on_event("record", {"record": record})
    return load_reference(task, directory, ledger, candidate, on_event)


def early_end(history: list[Record]) -> str:
    """That training ended before its last epoch, as text."""
    last, best = history[-1], best_epoch(history)
    return f"training of {last.trial} ends after epoch {last.epoch}, its best is epoch {best}"


def has_passed(dense: DenseReference, epoch: int, patience: int) -> bool:
    """Whether an epoch lies beyond the dense network's last because patience ended its training.

    Args:
      dense: the network.
      epoch: of a candidate.
      patience: of the task.
    """
    return epoch > dense.records[-1].epoch and has_ended(dense.records, patience)


def name_remedy(chosen: Iterable[str]) -> str:
    """What to change of a training that fails.

    Args:
      chosen: the hyperparameters that are in the space; the others are in the recipe.
    """
    names = list(chosen)
    whose = "the learning rates of the space" if "learning_rate" in names else "the learning rate"
    others = ", ".join(name for name in names if name != "learning_rate")
    text = f"Change the training recipe, e.g. lower {whose}"
    return f"{text}, or change the space's {others}." if others else f"{text}."


def _remedy(measured: Measurement, hyper: Mapping[str, float]) -> str:
    """What to do about a dense network that failed; nothing where the failure says it itself."""
    assert measured.failure is not None
    if "`init` must" in measured.failure:  # of a task: no weight was trained
        return ""
    if measured.spectra is not None and "spectrum" in measured.failure:
        return "Its nll is finite: see that the spectrum's inputs are, or lower the learning rate."
    return name_remedy(hyper)


def load_dense(task: Task, directory: pathlib.Path) -> DenseReference:
    """Takes the dense network of an earlier run.

    Raises:
      ConfigError: when there is none, or when it was trained on another task.
    """
    ledger = Ledger(directory / LEDGER)
    if not ledger.history("dense"):
        raise ConfigError(f"`dense` must be a run with a dense network, got {str(directory)!r}.")
    recorded = read_settings(directory).get("fingerprint", "")
    found = [text.split(" ")[0].split(".")[0] for text in differences(recorded, task.fingerprint())]
    if found:
        parts = ", ".join(dict.fromkeys(found))
        raise ConfigError(
            f"`dense` must be trained on the same task, got {str(directory)!r}, which differs in "
            f"{parts}. Repeat that run's settings, or leave `dense` out."
        )
    tuned = ledger.history("dense")[0].controls
    if tuned:
        values = ", ".join(f"{name}={value}" for name, value in tuned.items())
        raise ConfigError(
            f"`dense` must be trained by the recipe of this search, got {str(directory)!r}, whose "
            f"hyperparameters were tuned ({values}). Leave `dense` out."
        )
    try:
        candidate = Candidate("dense", DENSE, ledger.history("dense")[0].seed)
        # Another run is read, never repaired: a damaged one is refused.
        check_checkpoint(checkpoint_path(directory, "dense", best_epoch(ledger.history("dense"))))
        return load_reference(task, directory, ledger, candidate, lambda kind, values: None)
    except CheckpointError as error:
        raise ConfigError(f"`dense` must be a whole run: {error}") from error


def foreign_dense(task: Task, state: TaskState, seed: int) -> DenseReference:
    """Takes a dense network without a history, as its epoch 0: the reference `final` is the only
    one that it can serve.

    Args:
      task: the task.
      state: of the network.
      seed: recorded with it.

    Returns:
      The reference.
    """
    spectra = Spectra(Spectrum(*task.spectrum(state)))
    val_nll = task.evaluate(state, "validation")
    _, info = task.train(state, make_controls(DENSE), task.hyper, 0)
    measured = Measurement(
        failure=None,
        val_nll=val_nll,
        spectra=spectra,
        nonzeros=info.nonzeros,
    )
    record = make_record(Candidate("dense", DENSE, seed), 0, None, measured)
    return DenseReference([record], {0: spectra}, state)


def adopt(
    dense: DenseReference,
    run: pathlib.Path,
    ledger: Ledger,
    *,
    name: str = "dense",
    reference: DenseReference | None = None,
) -> None:
    """Copies a dense network into a run, so that the run is whole without the cache.

    Args:
      dense: the network.
      run: the run directory.
      ledger: the run's.
      name: the trial's name in the run.
      reference: the network to which its distance is recorded.

    Raises:
      ConfigError: when the run has begun with another.
    """
    target = checkpoint_path(run, name, best_epoch(dense.records))
    if name == "dense" and not has_checkpoint(target):
        save_checkpoint(target, dense.state)  # first: whole records imply a whole checkpoint
    for record in dense.records:
        known = ledger.get(name, record.epoch)
        if known is not None:
            if (known.val_nll, known.spectra_digest) != (record.val_nll, record.spectra_digest):
                raise ConfigError(
                    f"`dense` must be the network that {str(run)!r} began with, got another: its "
                    f"epoch {record.epoch} differs. Start another run."
                )
            continue
        spectra = dense.spectra[record.epoch]
        if reference is not None and record.epoch in reference.spectra:  # it may have ended before
            measured = distance(*alike(spectra, reference.spectra[record.epoch]))
            record = dataclasses.replace(record, **measured._asdict())
        save_spectra(run, name, record.epoch, spectra)
        ledger.append(dataclasses.replace(record, trial=name))


def load_reference(
    task: Task, directory: pathlib.Path, ledger: Ledger, candidate: Candidate, on_event: OnEvent
) -> DenseReference:
    """A dense network that is trained already, as the reference, whatever its trial is called.

    Args:
      task: the task.
      directory: of its spectra and of the checkpoint of its best epoch.
      ledger: of that directory.
      candidate: the network.
      on_event: told of damaged checkpoints.

    Returns:
      The reference; its records are those of training it as "dense".
    """

    def tell(text: str) -> None:
        on_event("notice", {"text": text})

    records = ledger.history(candidate.trial)
    spectra = {record.epoch: load_spectra(directory, record) for record in records}
    try:
        state = load_state(task, directory, candidate, best_epoch(records), tell)
    except TaskFailure as failure:
        raise SearchError(f"The dense network cannot be loaded: {failure}.") from failure
    own = [dataclasses.replace(r, trial="dense", round=None, score=None) for r in records]
    return DenseReference(own, spectra, state)
