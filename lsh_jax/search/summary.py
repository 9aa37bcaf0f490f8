"""The content of result.json: the winner against the dense network, and what it cost."""

import math
from typing import Any

from lsh_jax.config import SearchConfig
from lsh_jax.search.dense import DenseReference
from lsh_jax.search.ledger import Ledger, Record, best_epoch, perplexity
from lsh_jax.search.task import Task, TaskState
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

    Returns:
      JSON values.
    """
    best_sums, counts = task.block_nll(state, "test")
    dense_sums, _ = task.block_nll(dense.state, "test")
    difference, low, high = paired_block_bootstrap(
        best_sums, dense_sums, counts, level=_LEVEL, seed=config.seed
    )
    dense_best = dense.records[[r.epoch for r in dense.records].index(best_epoch(dense.records))]
    assert best.nonzeros is not None and dense_best.nonzeros is not None
    unigram = {split: math.exp(nll) for split, nll in (task.baseline_nll or {}).items()}
    return {
        "dense": {
            "epochs": dense.records[-1].epoch,
            "best_epoch": dense_best.epoch,
            "nonzeros": dense_best.nonzeros,
            "val_perplexity": dense_best.val_perplexity,
            "test_perplexity": perplexity(float(dense_sums.sum() / counts.sum())),
        },
        "best": {
            "trial": best.trial,
            "epoch": best.epoch,
            "controls": best.controls,
            "sparsity": 1 - best.nonzeros / dense_best.nonzeros,
            "nonzeros": best.nonzeros,
            "val_perplexity": best.val_perplexity,
            "test_perplexity": perplexity(float(best_sums.sum() / counts.sum())),
        },
        "beats_dense": {"difference": difference, "low": low, "high": high, "level": _LEVEL},
        "budget": budget(config, ledger, dense),
        "rounds": rounds,
        "unigram_perplexity": unigram.get("validation"),
        "unigram_test_perplexity": unigram.get("test"),
        "metric": config.metric,
        "algo": config.algo,
        "seed": config.seed,
    }


def budget(config: SearchConfig, ledger: Ledger, dense: DenseReference) -> dict[str, float]:
    """Epochs spent against training every candidate to the end.

    `ratio` counts the candidates' epochs only, `ratio_with_dense` those of the dense networks too.
    """
    own = [
        record
        for record in ledger.records()
        if isinstance(record.trial, int) and record.duplicate_of is None
    ]
    spent = len(own)
    full = len({record.trial for record in own}) * config.final_epochs
    epochs_dense = config.dense_seeds * dense.records[-1].epoch
    return {
        "epochs_spent": spent,
        "epochs_dense": epochs_dense,
        "epochs_full_search": full,
        "ratio": spent / full,
        "ratio_with_dense": (spent + epochs_dense) / full,
    }
