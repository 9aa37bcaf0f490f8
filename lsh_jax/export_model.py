"""`python -m lsh_jax.export_model MODEL --to=npz,csr --out=DIR`: a saved model in other formats.

Every file is read again and compared with the model before it counts as written.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from lsh_jax.config import ConfigError, check, check_choice
from lsh_jax.csr_model import csr_carry, csr_step, read_csr
from lsh_jax.model_archive import export_csr, export_npz, load_csr, load_npz
from lsh_jax.saved_model import SavedModel, flatten, load_model, save_model
from lsh_jax.torch_export import check_torch_has, export_torch, load_torch

_TOKENS = 8  # over which logits are compared
_TOLERANCE = 1e-4  # of the largest logit, for sums in another order


class Format(NamedTuple):
    """A way to write a model."""

    name: str  # of the file or folder
    files: str  # pattern of all that is written
    write: Callable[[pathlib.Path, SavedModel], None]
    read: Callable[[pathlib.Path], SavedModel]


class Written(NamedTuple):
    """A model in a format, compared with what was to be written."""

    path: pathlib.Path
    bytes_on_disk: int  # of all files, with names of words
    error: float | None  # of the logits by live weights alone, if they were compared


FORMATS = {
    "npz": Format("model.npz", "model.npz", export_npz, load_npz),
    "csr": Format("model.csr.npz", "model.csr.npz", export_csr, load_csr),
    "torch": Format("model.torch.safetensors", "model.torch.*", export_torch, load_torch),
    "safetensors": Format(
        "model", "model/*", lambda path, saved: save_model(path, *saved), load_model
    ),
}


def export_model(saved: SavedModel, format_name: str, out: pathlib.Path) -> Written:
    """Writes a model, reads it again, and compares the two.

    Args:
      saved: the model.
      format_name: of `FORMATS`.
      out: the folder to write into; made if missing.

    Returns:
      What was written: configuration, words, values and masks are the same bit for bit, and so are
      the logits of some tokens; those of the CSR matrices are the same but for rounding.

    Raises:
      ConfigError: when the format cannot hold the model.
      OSError: when it cannot be written, or differs once it is read again.
    """
    check_choice("to", format_name, tuple(FORMATS))
    name, pattern, write, read = FORMATS[format_name]
    out.mkdir(parents=True, exist_ok=True)
    write(out / name, saved)
    differing = difference(saved, read(out / name))
    error = _csr_error(saved, out / name) if format_name == "csr" else None
    if error is not None and error > _TOLERANCE:
        differing = "its logits"
    if differing:
        raise OSError(f"{out / name} was written, but read again it differs in {differing}")
    return Written(out / name, sum(path.stat().st_size for path in out.glob(pattern)), error)


def difference(saved: SavedModel, found: SavedModel) -> str | None:
    """The first thing in which two models differ, in words; None when they are the same."""
    if saved.model.config != found.model.config:
        return "its sizes"
    if saved.vocabulary != found.vocabulary:
        return "its words"
    for kind in ("params", "masks"):
        theirs = flatten(getattr(found, kind))
        for name, leaf in flatten(getattr(saved, kind)).items():
            if leaf.dtype != theirs[name].dtype or leaf.tobytes() != theirs[name].tobytes():
                return f"the {'values' if kind == 'params' else 'mask'} of {name}"
    apply = jax.jit(saved.model.apply)
    tokens, carry = _tokens(saved)[:, None], saved.model.init_carry(1)
    logits = [np.asarray(apply(model.params, tokens, carry)[0]) for model in (saved, found)]
    return None if logits[0].tobytes() == logits[1].tobytes() else "its logits"


def _csr_error(saved: SavedModel, path: pathlib.Path) -> float:
    """How far logits by live weights alone are off, as a share of the largest."""
    tokens = _tokens(saved)
    exact, _ = saved.model.apply(saved.params, tokens[:, None], saved.model.init_carry(1))
    model = read_csr(path)
    carry, logits = csr_carry(model), []
    for token in tokens.tolist():
        own, carry = csr_step(model, token, carry)
        logits.append(own)
    largest = float(np.abs(exact).max()) or 1.0
    return float(np.abs(np.stack(logits) - np.asarray(exact)[:, 0]).max()) / largest


def _tokens(saved: SavedModel) -> np.ndarray:
    size = saved.model.config.vocab_size
    return np.random.default_rng(0).integers(size, size=_TOKENS).astype(np.int32)


def main(arguments: list[str] | None = None) -> int:
    """Exports a model.

    Args:
      arguments: of the command line; those of this process if not given.

    Returns:
      The exit status: 0, 1 when a file cannot be written or differs, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lsh_jax.export_model",
        description="Writes a saved model in other formats, and reads them again to compare.",
    )
    parser.add_argument("model", type=pathlib.Path, help="a saved model, or a run that saved one")
    parser.add_argument("--to", help=f"comma list of {', '.join(FORMATS)}; all if not given")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="new or empty folder")
    flags = parser.parse_args(arguments)
    try:
        saved = load_model(flags.model)
        names = _formats(flags.to, saved)
        vacant = not flags.out.exists() or (flags.out.is_dir() and not any(flags.out.iterdir()))
        check(vacant, "out", "be a new or empty directory", str(flags.out))
        for name in names:
            print(_describe(name, export_model(saved, name, flags.out)), flush=True)
    except ConfigError as error:
        print(f"error: {error}".replace("`to`", "--to").replace("`out`", "--out"), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def _formats(wanted: str | None, saved: SavedModel) -> list[str]:
    """The formats to write, each once, before anything is written."""
    rhn = saved.model.config.cell == "rhn"
    names = [name for name in FORMATS if not (rhn and name == "torch")]
    if wanted is not None:
        names = list(dict.fromkeys(wanted.split(",")))
    for name in names:
        check_choice("to", name, tuple(FORMATS))
    if "torch" in names:
        check_torch_has(saved.model.config)
    return names


def _describe(name: str, written: Written) -> str:
    logits = "" if written.error is None else f", logits by live weights to {written.error:.0e}"
    return (
        f"{name}: {written.path}, {written.bytes_on_disk:,} bytes; read again: the same bits"
        f"{logits}"
    )


if __name__ == "__main__":
    sys.exit(main())
