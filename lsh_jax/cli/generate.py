"""The command `python experiments/generate.py`: a saved model in, text out."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from lsh_jax.cli.flags import read_flags
from lsh_jax.cli.running import Command, run_command
from lsh_jax.cli.workplace import cache_directory, open_device
from lsh_jax.config import check
from lsh_jax.data.vocabulary import UNK
from lsh_jax.generation import allowed_words, decode, encode_prompt, generate
from lsh_jax.saved_model import load_model


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """Writes text with a saved model."""

    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A saved model, or the directory of a run that saved one."""
    prompt: str = ""
    """Words to go on from, separated by blanks; the start of a line if not given."""
    length: int = 50
    """Words of a sample, without the prompt."""
    samples: int = 1
    """Texts to write."""
    temperature: float = 1.0
    """Above 1 is bolder, below 1 is safer; 0 takes the likeliest word every time."""
    top_k: int = 0
    """Draw among so many of the likeliest words alone; 0 for all."""
    unknown: bool = False
    """Let the model write <unk>, which stands for any rare word."""
    seed: int = 0
    """The same seed writes the same text."""
    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the best there is."""
    cache_dir: str | None = None
    """Compiled programs; ~/.cache/lsh_jax if not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    return run_command(Command(parse, _generate), arguments)


def parse(arguments: Sequence[str]) -> GenerationSettings:
    """Reads the model and flags.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    return read_flags(arguments, GenerationSettings(model=tyro.MISSING), "generate.py")


def _generate(settings: GenerationSettings) -> int:
    _check(settings)
    open_device(settings.accelerator, cache_directory(settings.cache_dir))
    saved = load_model(settings.model)
    prompt, unknown = encode_prompt(settings.prompt, saved.vocabulary)
    allowed = allowed_words(
        saved.model.config.vocab_size, saved.vocabulary, unknown=settings.unknown
    )
    if unknown:
        print(f"Note: the model reads as {UNK} what it does not know: {', '.join(unknown)}")
    tokens = generate(
        saved.model,
        saved.params,
        np.tile(prompt[:, None], settings.samples),
        settings.length,
        jax.random.key(settings.seed),
        temperature=settings.temperature,
        top_k=settings.top_k or None,
        allowed=allowed,
    )
    given = prompt if settings.prompt.split() else prompt[:0]
    for number, sample in enumerate(np.asarray(tokens).T):
        if settings.samples > 1:
            print(f"Sample {number + 1}")
        print(decode(np.concatenate([given, sample]), saved.vocabulary))
    return 0


def _check(settings: GenerationSettings) -> None:
    """Refuses what cannot be drawn before anything is read."""
    for name in ("length", "samples"):
        check(getattr(settings, name) >= 1, name, "be at least 1", getattr(settings, name))
    check(settings.top_k >= 0, "top_k", "be 0 (all) or above", settings.top_k)
    check(0 <= settings.seed < 2**32, "seed", "lie in [0, 2^32)", settings.seed)
