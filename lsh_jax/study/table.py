"""What a study's networks did, on disk: JSON lines of numbers, and spectra as whole millinats.

study.json                       the setting, its networks, versions and machine
lines.jsonl                      one line a (network, seed, epoch); a network's come together
spectra/<network>-<seed>.npz     integers: thousandths of a nat (of a bit in "paper"), standard
                                 errors in hundred-thousandths
"""

import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lsh_jax.config import ConfigError
from lsh_jax.machine import locked
from lsh_jax.study.settings import StudyConfig
from lsh_jax.study.trajectories import Line, Spectra

LINES, STUDY, SPECTRA = "lines.jsonl", "study.json", "spectra"
_MILLI, _FINE = 1000, 100_000
_DIGITS = 5  # of an nll: 0.001 % of a perplexity

Key = tuple[str, int]  # network, seed


class Trajectory(NamedTuple):
    """One network over its training.

    Attributes:
      network: its name.
      seed: of the run.
      train_nll: with dropout on, nats per token, [E].
      val_nll: of the weights after each epoch, [E].
      val_averaged: of the mean of iterates, [E].
      test_averaged: the same on test, [E].
      churn: share of the live weights that the epoch's updates replaced, [E]; 0 for none.
      nonzeros: live weights, [E].
      wall_s: [E].
      spectra: {"hidden": {epoch: [lengths, L, K]}, ...}, as in `Workshop.spectra`.
    """

    network: str
    seed: int
    train_nll: np.ndarray
    val_nll: np.ndarray
    val_averaged: np.ndarray
    test_averaged: np.ndarray
    churn: np.ndarray
    nonzeros: np.ndarray
    wall_s: np.ndarray
    spectra: dict[str, dict[int, np.ndarray]]

    def best_epoch(self) -> int:
        """The epoch of the lowest validation nll of the mean of iterates: early stopping."""
        return int(np.argmin(np.nan_to_num(self.val_averaged, nan=np.inf))) + 1

    def final(self) -> float:
        """Validation perplexity of the trained network."""
        return float(np.exp(self.val_averaged[self.best_epoch() - 1]))

    def final_test(self) -> float:
        """Test perplexity of the trained network."""
        return float(np.exp(self.test_averaged[self.best_epoch() - 1]))


class Table(NamedTuple):
    """All networks of a study."""

    settings: dict[str, Any]  # the content of study.json
    trajectories: dict[Key, Trajectory]

    def seeds(self) -> list[int]:
        """The seeds of the candidates that the dense network has been trained with too."""
        own = {seed for network, seed in self.trajectories if network.isdecimal()}
        return sorted(seed for seed in own if ("dense", seed) in self.trajectories)

    def candidates(self) -> list[str]:
        """The candidates that all these seeds have, by number."""
        names = {network for network, _ in self.trajectories if network.isdecimal()}
        seeds = self.seeds()
        whole = [n for n in names if all((n, seed) in self.trajectories for seed in seeds)]
        return sorted(whole, key=int) if seeds else []


def describe_study(study: StudyConfig, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The content of study.json."""
    from lsh_jax.study.settings import networks

    plain = dataclasses.asdict(study)
    own = {network.name: network.sparsity.to_json() for network in networks(study).values()}
    return json.loads(json.dumps({"study": plain, "networks": own, **extra}, default=str))


def finished(directory: pathlib.Path) -> set[Key]:
    """The networks and seeds that the table holds."""
    return {(line["network"], line["seed"]) for line in _lines(directory)}


def seconds_each(directory: pathlib.Path) -> dict[str, float]:
    """Mean wall time of every network that the table holds with some seed."""
    total: dict[str, float] = {}
    seeds: dict[str, set[int]] = {}
    for line in _lines(directory):
        name = line["network"]
        total[name] = total.get(name, 0.0) + line["wall_s"]
        seeds.setdefault(name, set()).add(line["seed"])
    return {name: seconds / len(seeds[name]) for name, seconds in total.items()}


def append(directory: pathlib.Path, lines: Sequence[Line], spectra: Mapping[int, Spectra]) -> None:
    """Writes a network that is trained to its end; several processes may write one table.

    Args:
      directory: of the table.
      lines: of all its epochs.
      spectra: epoch -> spectra.
    """
    name = f"{lines[0]['network']}-{lines[0]['seed']}"
    (directory / SPECTRA).mkdir(parents=True, exist_ok=True)
    if spectra:
        packed = io.BytesIO()
        np.savez_compressed(packed, **_packed(spectra))  # type: ignore[arg-type]
        path = directory / SPECTRA / f"{name}.npz"
        path.with_suffix(".tmp").write_bytes(packed.getvalue())
        path.with_suffix(".tmp").replace(path)
    text = "".join(json.dumps(_rounded(line), allow_nan=False) + "\n" for line in lines)
    with locked(directory, wait=True):
        if (lines[0]["network"], lines[0]["seed"]) in finished(directory):
            return  # another process was asked for it too
        with (directory / LINES).open("a", encoding="utf-8") as file:
            file.write(text)


def load_table(directory: pathlib.Path) -> Table:
    """Reads a table.

    Raises:
      ConfigError: when the folder holds none.
    """
    if not (directory / STUDY).is_file():
        raise ConfigError(f"`study` must be a folder with a {STUDY}, got {str(directory)!r}.")
    grouped: dict[Key, list[Line]] = {}
    for line in _lines(directory):
        grouped.setdefault((line["network"], line["seed"]), []).append(line)
    trajectories = {key: _trajectory(directory, key, lines) for key, lines in grouped.items()}
    return Table(json.loads((directory / STUDY).read_text()), trajectories)


def _lines(directory: pathlib.Path) -> Iterator[Line]:
    path = directory / LINES
    for line in path.read_text().splitlines() if path.is_file() else ():
        yield json.loads(line)


def _rounded(line: Line) -> Line:
    """Numbers as they are kept; None for what is not finite, which JSON has no word for."""

    def kept(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return float(f"{value:.{_DIGITS}f}") if math.isfinite(value) else None

    return {name: kept(value) for name, value in line.items()}


def _unit(name: str) -> int:
    return _FINE if name.endswith("std_error") else _MILLI


def _packed(spectra: Mapping[int, Spectra]) -> dict[str, np.ndarray]:
    """{"hidden/3": int16 [lengths, L, K], ...}."""
    limits = np.iinfo(np.int16)
    return {
        f"{name}/{epoch}": np.clip(
            np.nan_to_num(np.round(values * _unit(name)), nan=limits.max), limits.min, limits.max
        ).astype(np.int16)
        for epoch, own in spectra.items()
        for name, values in own.items()
    }


def _trajectory(directory: pathlib.Path, key: Key, lines: list[Line]) -> Trajectory:
    def column(name: str) -> np.ndarray:
        return np.array([np.nan if line[name] is None else line[name] for line in lines], float)

    return Trajectory(
        network=key[0],
        seed=key[1],
        train_nll=column("train_nll"),
        val_nll=column("val_nll"),
        val_averaged=column("val_nll_averaged"),
        test_averaged=column("test_nll_averaged"),
        churn=np.nan_to_num(column("churn")),
        nonzeros=column("nonzeros"),
        wall_s=column("wall_s"),
        spectra=_load_spectra(directory / SPECTRA / f"{key[0]}-{key[1]}.npz"),
    )


def _load_spectra(path: pathlib.Path) -> dict[str, dict[int, np.ndarray]]:
    found: dict[str, dict[int, np.ndarray]] = {}
    if path.is_file():
        with np.load(path) as packed:
            for label, values in packed.items():
                name, epoch = label.split("/")
                found.setdefault(name, {})[int(epoch)] = values / _unit(name)
    return found
