"""The files of a run: where they lie, who may write them, and what they must agree with."""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lsh_jax.checkpoint import remove_checkpoint, write_json
from lsh_jax.config import ConfigError
from lsh_jax.machine import InUseError, locked
from lsh_jax.search.ledger import Record, TrialId
from lsh_jax.search.scores import Spectra, Spectrum, digest

LEDGER = "trials.jsonl"
CORRUPT = "corrupt"  # folder of damaged checkpoints
_LONGEST = 200  # letters of a value in a message
_RAW, _ERROR = ".raw", ".std_error"  # in names of files of spectra


def checkpoint_path(run: pathlib.Path, trial: TrialId, epoch: int) -> pathlib.Path:
    """The checkpoint of a trial after an epoch."""
    return run / "checkpoints" / str(trial) / str(epoch)


def keep_checkpoints(run: pathlib.Path, trial: TrialId, epochs: set[int]) -> None:
    """Deletes a trial's checkpoints but those of `epochs`; none left takes the folder too."""
    folder = run / "checkpoints" / str(trial)
    for path in list(folder.glob("*")):
        epoch = path.name.removesuffix(".json")
        if not epoch.isdecimal() or int(epoch) not in epochs:
            remove_checkpoint(path.with_name(epoch))
            if path.is_file():  # half written
                path.unlink()
    if not epochs:
        shutil.rmtree(folder, ignore_errors=True)


def remove_segments(run: pathlib.Path, trial: TrialId) -> None:
    """Deletes a trial's checkpoints within epochs."""
    for manifest in (run / "checkpoints" / str(trial)).glob("*-*.json"):
        remove_checkpoint(manifest.with_suffix(""))


def spectrum_path(run: pathlib.Path, trial: TrialId, epoch: int, raw: str = "") -> pathlib.Path:
    """The exponents [L, K] of a trial after an epoch; beside them their standard errors."""
    return run / "spectra" / f"{trial}-{epoch}{raw}.npy"


def save_spectra(run: pathlib.Path, trial: TrialId, epoch: int, spectra: Spectra) -> None:
    """Writes exponents and standard errors, [L, K] each; of raw weights beside those evaluated."""
    (run / "spectra").mkdir(parents=True, exist_ok=True)
    for spectrum, raw in ((spectra.evaluated, ""), (spectra.raw, _RAW)):
        if spectrum is not None:
            path = spectrum_path(run, trial, epoch, raw)
            np.save(path, spectrum.exponents)
            np.save(path.with_suffix(f"{_ERROR}.npy"), spectrum.std_error)


def load_spectra(run: pathlib.Path, record: Record) -> Spectra:
    """Reads the spectra of a trial's epoch, those of raw weights where averages were evaluated.

    Raises:
      ConfigError: when one is not there, or is not the one on record.
    """

    def load(raw: str) -> Spectrum:
        path = spectrum_path(run, record.trial, record.epoch, raw)
        name = f"The spectrum of {record.trial} after epoch {record.epoch}"
        if not path.is_file():
            raise ConfigError(f"{name} is missing: {path}.")
        try:
            arrays = np.load(path), np.load(path.with_suffix(f"{_ERROR}.npy"))
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(f"{name} cannot be read: {path} ({error}).") from error
        return Spectrum(*arrays)

    spectra = Spectra(load(""), load(_RAW) if record.averaging else None)
    if record.spectra_digest not in (None, digest(spectra)):
        path = spectrum_path(run, record.trial, record.epoch)
        raise ConfigError(
            f"The spectrum of {record.trial} after epoch {record.epoch} is damaged: {path} is not "
            "what is on record."
        )
    return spectra


def gather_spectra(
    run: pathlib.Path, records: Iterable[Record], tell: Callable[[str], None]
) -> None:
    """Collects all spectra in spectra.npz, keys <trial>/<epoch>, and their errors beside it.

    Those of the raw weights behind averages go to spectra_raw.npz, where there are any.

    Args:
      run: the run directory.
      records: of its ledger; those that failed or repeat another have no spectra.
      tell: told of spectra that are missing or damaged, which are left out.
    """
    found: dict[str, dict[str, np.ndarray]] = {"": {}, _ERROR: {}}
    for record in records:
        if record.status == "failed" or record.duplicate_of is not None:
            continue
        try:
            spectra = load_spectra(run, record)
        except ConfigError as error:
            tell(f"{str(error).rstrip('.')}; it is left out of spectra.npz")
            continue
        for spectrum, raw in ((spectra.evaluated, ""), (spectra.raw, _RAW)):
            if spectrum is not None:
                key = f"{record.trial}/{record.epoch}"
                found.setdefault(raw, {})[key] = spectrum.exponents
                found.setdefault(f"{raw}{_ERROR}", {})[key] = spectrum.std_error
    for suffix, arrays in found.items():
        ordered = dict(sorted(arrays.items()))
        np.savez(run / f"spectra{suffix.replace('.', '_')}.npz", **ordered)  # type: ignore[arg-type]


@contextlib.contextmanager
def held(run: pathlib.Path) -> Iterator[None]:
    """Holds a run directory, made if missing, for this process.

    Raises:
      ConfigError: when another process is writing it, or it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(run, wait=False))
        except InUseError as owner:
            raise ConfigError(
                f"`out` must not be in use, got {str(run)!r}, which {owner} is writing."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"`out` must be a directory that can be made, got {str(run)!r} ({error.strerror})."
            ) from error
        yield


def check_vacant(run: pathlib.Path, *, resume: bool) -> None:
    """Refuses to write over files, or to continue what is no run.

    Raises:
      ConfigError: when the directory holds files and `resume` is false, or holds no run and it is
        true.
    """
    if set("[]") & set(str(run)):
        raise ConfigError(
            f"`out` must be without square brackets, got {str(run)!r}: checkpoints could be "
            "written there but not read."
        )
    begun = (".lock", "config.json.tmp")  # what a run leaves that was stopped before its first file
    occupied = run.exists() and (
        not run.is_dir() or any(entry.name not in begun for entry in run.iterdir())
    )
    if occupied and not resume:
        raise ConfigError(
            f"`out` must be a new or empty directory, got {str(run)!r}, which holds files: "
            "take another, or continue a run with --resume."
        )
    if resume and not (run / "config.json").is_file():
        found = "which holds none" if run.exists() else "which does not exist"
        raise ConfigError(
            f"`out` must hold a run to resume, got {str(run)!r}, {found}: "
            "leave out --resume to start one."
        )
    if resume:
        _check_links(run)


def _check_links(run: pathlib.Path) -> None:
    """Refuses links that lead out of a run: what is written into it would be written elsewhere."""
    whole = run.resolve()
    for path in run.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(whole):
            raise ConfigError(
                f"`out` must hold no links to places outside it, got {str(path)!r}, which leads to "
                f"{str(path.resolve())!r}: put what it points to in its place."
            )


def record_settings(
    run: pathlib.Path,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    free: Mapping[str, Any] | None = None,
) -> None:
    """Writes config.json, or holds the run that is there against it.

    Args:
      run: the run directory.
      settings: JSON values.
      resume: continue what is there.
      free: more of them, which a run that is resumed need not repeat.

    Raises:
      ConfigError: when there is a run and `resume` is false, or its settings differ.
    """
    check_vacant(run, resume=resume)
    path = run / "config.json"
    if resume and path.is_file():
        old, new = (
            {name: value for name, value in both.items() if name not in (free or {})}
            for both in (read_settings(run), json.loads(json.dumps(settings)))
        )
        found = list(differences(old, new))
        # The fingerprint repeats what other settings say; alone, it says it all.
        found = [text for text in found if not text.startswith("fingerprint")] or found
        if found:
            raise ConfigError(
                f"`resume` must repeat the settings of {str(run)!r}; these differ: "
                f"{'; '.join(found)}."
            )
        return
    write_json(path, {**settings, **(free or {})})


def read_settings(run: pathlib.Path) -> dict[str, Any]:
    """The settings that a run recorded.

    Raises:
      ConfigError: when its config.json cannot be read.
    """
    try:
        settings = json.loads((run / "config.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"The config.json of {str(run)!r} cannot be read: {error}.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"The config.json of {str(run)!r} holds no settings.")
    return settings


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """What differs between two JSON values, or two strings that hold JSON objects, one by one.

    Args:
      old: as recorded.
      new: as they are.
      name: of the values, empty for the whole.

    Yields:
      "<name> was <old> and is <new>".
    """
    old, new = _opened(old), _opened(new)
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            shown = key if key.isprintable() else repr(key)
            inner = f"{name}.{shown}" if name else shown
            yield from differences(old.get(key), new.get(key), inner)
    elif old != new:
        was, now = (repr(value) for value in (old, new))
        yield f"{name or 'it'} was {was[:_LONGEST]} and is {now[:_LONGEST]}"


def _opened(value: Any) -> Any:
    """A fingerprint as the object that it is, anything else as it is."""
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value
