"""The content of result.json: the winner against the dense network, and what it cost."""

import math
from typing import Any

import numpy as np

from lsh_jax.config import SearchConfig
from lsh_jax.search.dense import DenseReference, SearchError
from lsh_jax.search.ledger import Ledger, Record, best_epoch, perplexity
from lsh_jax.search.task import Task, TaskState, Topology
from lsh_jax.search.tuning import Tuning
from lsh_jax.sparsity.counting import Costs, costs, parts_of, topology_statistics
from lsh_jax.statistics import paired_block_bootstrap

_LEVEL = 0.95  # of the interval of winner against dense


def summarise(
    task: Task,
    config: SearchConfig,
    ledger: Ledger,
    dense: DenseReference,
    best: Record,
    state: TaskState,
    rounds: list[dict[str, Any]],
    tuning: Tuning,
) -> dict[str, Any]:
    """Reads the test split, once for the winner and once for the dense network, and sums up.

    Args:
      task: the task.
      config: the search.
      ledger: of the whole run.
      dense: the dense reference.
      best: the winner's record at its best epoch.
      state: the winner's state there.
      rounds: what happened in each.
      tuning: of the dense network's hyperparameters.

    Returns:
      JSON values.

    Raises:
      SearchError: when a test nll is not finite.
    """
    best_sums, counts = task.block_nll(state, "test")
    dense_sums, _ = task.block_nll(dense.state, "test")
    for network, sums in (("winner", best_sums), ("dense network", dense_sums)):
        if not np.isfinite(sums).all():
            raise SearchError(
                f"the test nll of the {network} is {float(np.sum(sums))} where that of validation "
                "is finite. Look for values in the test data that the others do not have."
            )
    difference, low, high = paired_block_bootstrap(
        best_sums, dense_sums, counts, level=_LEVEL, seed=config.seed
    )
    dense_best = dense.records[[r.epoch for r in dense.records].index(best_epoch(dense.records))]
    assert best.nonzeros is not None and dense_best.nonzeros is not None
    return {
        "measure": task.measure._asdict(),
        "dense": {
            "epochs": dense.records[-1].epoch,
            "best_epoch": dense_best.epoch,
            "hyper": dense_best.controls,
            "tuning_trials": tuning.num_trials,
            "nonzeros": dense_best.nonzeros,
            **_told(dense_best.val_nll, float(dense_sums.sum() / counts.sum())),
        },
        "best": {
            "trial": best.trial,
            "epoch": best.epoch,
            "controls": best.controls,
            "sparsity": 1 - best.nonzeros / dense_best.nonzeros,
            "nonzeros": best.nonzeros,
            **_told(best.val_nll, float(best_sums.sum() / counts.sum())),
        },
        "beats_dense": {"difference": difference, "low": low, "high": high, "level": _LEVEL},
        "budget": budget(config, ledger, tuning),
        "rounds": rounds,
        **({} if task.topology is None else {"counts": _counts(task.topology, best, state)}),
        **_baseline(task),
        "metric": config.metric,
        "algo": config.algo,
        "seed": config.seed,
    }


def _told(val_nll: float | None, test_nll: float) -> dict[str, Any]:
    """How well a network does; the perplexities are exp of the nll, whatever the measure."""
    return {
        "val_nll": val_nll,
        "test_nll": test_nll,
        "val_perplexity": None if val_nll is None else perplexity(val_nll),
        "test_perplexity": perplexity(test_nll),
    }


def _baseline(task: Task) -> dict[str, Any]:
    """The nll of the baseline; a perplexity of unigrams is told where it is one."""
    nll = {s: float(x) for s, x in (task.baseline_nll or {}).items() if math.isfinite(x)}
    unigram = nll if task.measure.kind == "perplexity" else {}
    told = {split: perplexity(value) for split, value in unigram.items()}
    return {
        "baseline_nll": nll,
        "unigram_perplexity": told.get("validation"),
        "unigram_test_perplexity": told.get("test"),
    }


def _counts(topology: Topology, best: Record, state: TaskState) -> dict[str, Any]:
    """Weights, FLOPs per token and bytes of both networks, and the winner part by part."""
    leaves, sparsity = topology.leaves, topology.state(state)
    # The program of the epochs, so that nothing is compiled for this.
    found = topology_statistics(sparsity.masks, sparsity.masks, sparsity.explored, leaves)
    live, explored = np.asarray(found.live).tolist(), np.asarray(found.explored).tolist()
    every = float(best.controls["update_every"]) * topology.steps_per_epoch  # JSON has "inf"
    steps = 0 if math.isinf(every) else max(1, round(every))
    own = costs(leaves, live, growth=best.controls["growth"], steps_between_updates=steps)
    parts = [
        part._asdict() | {"live": alive, "explored": ever}
        for part, alive, ever in zip(parts_of(leaves), live, explored, strict=True)
    ]
    return {"dense": _cost(costs(leaves)), "best": _cost(own) | {"parts": parts}}


def _cost(own: Costs) -> dict[str, Any]:
    return {
        "weights": own.weights,
        "live": own.live,
        "unmasked": own.unmasked,
        "flops_forward": own.flops_forward,
        "flops_training": {
            "needed": own.flops_training_needed,
            "executed": own.flops_training_executed,
        },
        "bytes": {"stored": own.bytes_stored, "csr": own.bytes_csr},
    }


def budget(config: SearchConfig, ledger: Ledger, tuning: Tuning) -> dict[str, float]:
    """Epochs spent against training every candidate to the end.

    `ratio` counts the candidates' epochs only, `ratio_with_dense` those of the dense networks and
    of their tuning too.
    """
    own = [
        record
        for record in ledger.records()
        if isinstance(record.trial, int) and record.duplicate_of is None
    ]
    spent = len(own)
    full = len({record.trial for record in own}) * config.final_epochs
    # One that was given without its history stands in the ledger as epoch 0.
    epochs_dense = sum(isinstance(r.trial, str) and r.epoch > 0 for r in ledger.records())
    return {
        "epochs_spent": spent,
        "epochs_dense": epochs_dense,
        "epochs_tuning": tuning.num_epochs,
        "epochs_full_search": full,
        "ratio": spent / full,
        "ratio_with_dense": (spent + epochs_dense + tuning.num_epochs) / full,
    }
