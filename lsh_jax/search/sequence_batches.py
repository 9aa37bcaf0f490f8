"""What a network of one's own is trained and measured on: batches of sequences in a fixed order."""

import math
from typing import NamedTuple

import jax
import numpy as np

from lsh_jax.config import check
from lsh_jax.sequence_training import Batch


class SequenceBatches(NamedTuple):
    """What a network is trained and measured on: trees of arrays, a batch as its loss takes it.

    The order is fixed, the same for every network and epoch. `cut_batches` cuts an array.
    """

    train: Batch  # [S, N, ...]: S segments of an epoch, of N batches each
    validation: Batch  # [N, ...]
    test: Batch  # [N, ...]


def cut_batches(sequences: Batch, batch_size: int, segments: int = 0) -> Batch:
    """Cuts sequences into batches, and these into segments; what is left over is dropped.

    Args:
      sequences: a tree of arrays, [number of sequences, ...] each.
      batch_size: sequences of a batch.
      segments: of an epoch, for training; 0 for a split that is evaluated.

    Returns:
      The tree with [N, batch_size, ...], or [segments, N, batch_size, ...], in its place.

    Raises:
      ConfigError: when there are too few sequences.
    """
    check(batch_size >= 1, "batch_size", "be at least 1", batch_size)
    count = len(jax.tree.leaves(sequences)[0])
    batches = count // (batch_size * max(1, segments))
    check(batches >= 1, "sequences", f"fill {max(1, segments)} batches of {batch_size}", count)
    shape = (segments, batches, batch_size) if segments else (batches, batch_size)
    used = math.prod(shape)
    return jax.tree.map(lambda leaf: leaf[:used].reshape(*shape, *leaf.shape[1:]), sequences)


def checked_batches(data: SequenceBatches) -> SequenceBatches:
    """The arrays on the host, once their leading axes agree.

    Raises:
      ConfigError: where they do not, there is nothing to train on, one batch to measure on, or
        batches for training that are not in segments.
    """
    data = SequenceBatches(*(jax.tree.map(np.asarray, split) for split in data))
    for split, axes in (("train", 2), ("validation", 1), ("test", 1)):
        shapes = [leaf.shape for leaf in jax.tree.leaves(getattr(data, split))]
        leading = {shape[:axes] for shape in shapes}
        agreed = len(leading) == 1 and all(len(shape) >= axes for shape in shapes)
        names = "[segments, batches, ...]" if axes == 2 else "[batches, ...]"
        check(agreed, f"data.{split}", f"hold arrays {names} that agree in these", shapes)
        least = 1 if axes == 2 else 2  # blocks, for the bootstrap
        check(min(*leading.pop(), least) >= 1, f"data.{split}", "hold batches", shapes)
        if axes == 1:
            check(shapes[0][0] >= least, f"data.{split}", "hold at least 2 batches", shapes[0])
    ranks = [[leaf.ndim for leaf in jax.tree.leaves(split)] for split in data]
    segmented = ranks[0] == [rank + 1 for rank in ranks[1]]
    condition = (
        "have one axis more than data.validation, [segments, batches, ...]: give `cut_batches` "
        "segments=S for it alone"
    )
    check(segmented, "data.train", condition, f"{ranks[0]} axes beside {ranks[1]}")
    return data
