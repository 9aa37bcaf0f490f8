"""The command `python experiments/train_dense.py`: settings in, the run of a dense network out."""

import pathlib
from collections.abc import Sequence
from typing import Any

from lsh_jax.checkpoint import write_json
from lsh_jax.cli.flags import given, read_flags
from lsh_jax.cli.running import Command, run_command, run_directory
from lsh_jax.cli.workplace import Workplace, cache_directory, open_device, recorded, set_up
from lsh_jax.config import check
from lsh_jax.estimate import describe_unused_rows, measure_epoch
from lsh_jax.plots.history import plot_history
from lsh_jax.presets import TrainingSettings, starting_point, to_json, training_part
from lsh_jax.progress import about, duration, training_progress
from lsh_jax.search import stopping
from lsh_jax.search.dense import DenseReference, train_dense
from lsh_jax.search.ledger import Ledger, best_epoch, perplexity
from lsh_jax.search.run_directory import (
    LEDGER,
    check_vacant,
    gather_spectra,
    held,
    record_settings,
)
from lsh_jax.sizes import ModelSizes, describe_network, model_sizes


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: without the program's name; those of the process if not given.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.
    """
    directory = lambda settings: run_directory(settings, "dense-")  # noqa: E731
    return run_command(Command(parse, _train, directory), arguments)


def parse(arguments: Sequence[str]) -> TrainingSettings:
    """Reads flags over the training half of the preset that they name.

    Raises:
      SystemExit: with status 2 and a message on bad flags; with 0 after --help.
    """
    default = training_part(starting_point(given(arguments, "preset"), ""))
    return read_flags(arguments, default, "train_dense.py")


def _train(settings: TrainingSettings) -> int:
    epochs, seed = settings.final_epochs, settings.seed
    check(epochs >= 1, "final_epochs", "be at least 1", epochs)
    check(0 <= seed < 2**31, "seed", "lie in [0, 2^31)", seed)
    cache, out = cache_directory(settings.cache_dir), pathlib.Path(str(settings.out))
    if not settings.dry_run:
        check_vacant(out, resume=settings.resume)
    device = open_device(settings.accelerator, cache)
    place = set_up(settings, cache)
    sizes = model_sizes(settings.model)
    print(describe_network(settings.model, sizes))
    unused = describe_unused_rows(settings, place.statistics["types"])
    if unused:
        print(unused)
    done = len(Ledger(out / LEDGER).history("dense")) if settings.resume else 0
    if done < epochs:
        print(_describe_cost(epochs, done, *measure_epoch(settings, place.corpus)))
    if done > epochs:
        print(f"Note: {done} epochs are done, so --final-epochs={epochs} changes nothing.")
    if settings.dry_run:
        return 0
    print(f"Run directory: {out}", flush=True)
    task = place.task
    tokens = place.statistics["train_tokens"]
    with held(out):
        config = {"fingerprint": task.fingerprint(), "seed": seed}
        written = recorded(to_json(settings), place, device)
        record_settings(out, config | written, resume=settings.resume)
        with (
            stopping.on_signals(),
            training_progress(
                epochs, done, task.segments_per_epoch, tokens, place.unigram
            ) as listener,
        ):
            dense = train_dense(task, epochs, seed, out, listener, {})
        result = _summarise(settings, place, dense, sizes)
        task.save(dense.state, out / "model")
        gather_spectra(out, dense.records, lambda text: print(f"Note: {text}."))
        plot_history(dense.records, place.unigram).savefig(out / "history.png", dpi=110)
        write_json(out / "result.json", result)
    print(_headline(result, out))
    return 0


def _describe_cost(epochs: int, done: int, seconds: float, state_bytes: int) -> str:
    left = max(epochs - done, 0)
    # Latest and best epoch, the segments since, and the one that is being written.
    disk = 4 * state_bytes / 2**20
    return (
        f"Epochs: {epochs}{f', {done} of them done' if done else ''}\n"
        f"Disk: at most {disk:,.1f} MiB of checkpoints\n"
        f"Time: {about(left * seconds)}, {duration(seconds)} an epoch with evaluation and "
        "spectrum, measured on a few windows here; compiling comes on top"
    )


def _summarise(
    settings: TrainingSettings, place: Workplace, dense: DenseReference, sizes: ModelSizes
) -> dict[str, Any]:
    """The content of result.json; reads the test split."""
    best = best_epoch(dense.records)
    record = next(r for r in dense.records if r.epoch == best)
    return {
        "dense": {
            "epochs": dense.records[-1].epoch,
            "best_epoch": best,
            "val_perplexity": record.val_perplexity,
            "test_perplexity": perplexity(place.task.evaluate(dense.state, "test")),
            "averaging": record.averaging,
        },
        "unigram_perplexity": place.unigram,
        "sizes": {
            "weights": sizes.weights,
            "biases": sizes.biases,
            "torch_biases": sizes.torch_biases,
            "multiply_adds": sizes.multiply_adds,
        },
        "tokens": place.statistics,
        "wall_s": float(f"{sum(r.wall_s or 0.0 for r in dense.records):.1f}"),
        "seed": settings.seed,
        "settings": to_json(settings) | {"final_epochs": settings.final_epochs},
    }


def _headline(result: dict[str, Any], out: pathlib.Path) -> str:
    dense = result["dense"]

    def shown(value: float | None) -> str:
        return "beyond numbers" if value is None else f"{value:.2f}"

    return (
        f"Dense network: validation perplexity {shown(dense['val_perplexity'])}, test perplexity "
        f"{shown(dense['test_perplexity'])} at epoch {dense['best_epoch']} of {dense['epochs']}: "
        f"{out / 'model'}"
    )
