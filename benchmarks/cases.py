"""What is measured: one case, and the named suites of cases."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from lsh_jax.distance import num_leading

SUITES = ("smoke", "small", "paper", "growth")
CELLS = ("lstm", "gru", "tanh", "rhn")
TORCH = ("torch_rows", "torch_dense")


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement: a model, a spectrum of it, and how long each method runs."""

    suite: str = "flags"
    sweep: str = ""
    """The letter that a growth suite varies here: H, K, T or B."""
    cell: str = "lstm"
    hidden_size: int = 200
    num_layers: int = 2
    depth: int = 1
    """Micro-steps of an RHN."""
    state: str = "hidden"
    num_exponents: int = 200
    """K of each layer; the whole stack of the PyTorch baselines tracks num_layers times K."""
    length: int = 140
    """T: steps that the library runs."""
    bare_length: int = 32
    """Steps that the roofline and the PyTorch baselines run: their time per step is constant."""
    batch: int = 4
    qr: str = "auto"

    @property
    def size(self) -> int:
        """N of each layer: rows of the frame."""
        return state_size(self.cell, self.state, self.hidden_size)

    @property
    def comparable(self) -> bool:
        """Whether the PyTorch baselines compute this: they know the h of stacked LSTMs alone."""
        return self.cell == "lstm" and self.state == "hidden"


def state_size(cell: str, state: str, hidden_size: int) -> int:
    """Rows of the tangent space of a layer: (h, c) of an LSTM with the full state, else H."""
    return hidden_size * (2 if cell == "lstm" and state == "full" else 1)


def from_share(share: float, **fields: Any) -> Case:
    """The case that tracks the leading share of a layer's exponents."""
    case = Case(**fields)
    return dataclasses.replace(case, num_exponents=num_leading(share, case.size))


def suite(name: str) -> list[Case]:
    """The cases of a named suite, cheap ones first."""
    makers = {"smoke": _smoke, "small": _small, "paper": _paper, "growth": _growth}
    return [dataclasses.replace(case, suite=name) for case in makers[name]()]


def _smoke() -> Iterator[Case]:
    yield from_share(1.0, hidden_size=8, length=6, bare_length=6, batch=2)


def _small() -> Iterator[Case]:
    for hidden_size in (100, 150, 200):
        for state in ("hidden", "full"):
            for share in (0.3, 1.0):
                yield from_share(share, hidden_size=hidden_size, state=state)


def _paper() -> Iterator[Case]:
    lengths = {"length": 35, "bare_length": 4, "batch": 1}
    lstm = {"cell": "lstm", "hidden_size": 1500, "num_layers": 2, **lengths}
    rhn = {"cell": "rhn", "hidden_size": 830, "num_layers": 1, "depth": 10, **lengths}
    yield Case(state="hidden", num_exponents=64, **lstm)
    yield from_share(0.3, state="hidden", **lstm)
    yield from_share(1.0, state="hidden", **lstm)
    yield from_share(0.3, state="full", **lstm)
    yield from_share(0.3, state="full", **rhn)
    yield from_share(1.0, state="full", **rhn)


def _growth() -> Iterator[Case]:
    usual = {"hidden_size": 128, "length": 32, "bare_length": 4, "batch": 1}
    for hidden_size in (64, 128, 256, 512, 1024):
        yield from_share(1.0, sweep="H", **{**usual, "hidden_size": hidden_size})
    for num_exponents in (8, 16, 32, 64, 128, 256, 512):
        sizes = {**usual, "hidden_size": 512, "num_exponents": num_exponents}
        yield Case(sweep="K", **sizes)
    for length in (8, 16, 32, 64, 128, 256, 512):
        lengths = {"length": length, "bare_length": length}
        yield from_share(1.0, sweep="T", **{**usual, **lengths})
    for batch in (1, 2, 4, 8, 16, 32):
        yield from_share(1.0, sweep="B", **{**usual, "batch": batch})


def grid(
    cells: Sequence[str],
    hidden_sizes: Sequence[int],
    states: Sequence[str],
    counts: Sequence[int],
    shares: Sequence[float],
    num_layers: int,
    depth: int,
) -> list[Case]:
    """Every combination of the values, by count of exponents and by share of them."""
    cases = []
    for cell in cells:
        for hidden_size in hidden_sizes:
            for state in states:
                fields: dict[str, Any] = {
                    "cell": cell,
                    "hidden_size": hidden_size,
                    "state": state,
                    "num_layers": num_layers,
                    "depth": depth if cell == "rhn" else 1,
                }
                cases += [Case(num_exponents=count, **fields) for count in counts]
                cases += [from_share(share, **fields) for share in shares]
    return cases
