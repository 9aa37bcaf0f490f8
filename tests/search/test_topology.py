"""Masks through the search: a task whose masks move one column to the right every epoch."""

import jax
import jax.numpy as jnp
import pytest

from lsh_jax.config import SparsityConfig
from lsh_jax.search.epoch import run_epoch
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.ledger import Ledger
from lsh_jax.search.task import Topology
from lsh_jax.search.trial import DENSE, Candidate
from lsh_jax.sparsity import SparsityState
from lsh_jax.sparsity.counting import counted_leaves

FIRST = jnp.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
STEPS = 4  # of the optimizer in an epoch


@pytest.fixture(scope="module")
def task(toy_task):
    """The toy task with masks of one leaf of 2 x 4 weights, and two gates in it."""
    toy = toy_task()

    def init(key, controls, hyper):
        empty = dict.fromkeys(SparsityState._fields)  # nothing that counting looks at
        # Fresh buffers, for `train` gives them up.
        masks = {name: {"a": jnp.array(FIRST)} for name in ("masks", "explored")}
        return toy.init(key, controls, hyper) | {"sparsity": SparsityState(**(empty | masks))}

    def train(state, controls, hyper, num_segments):
        starts_epoch = int(state["segments"]) % toy.segments_per_epoch == 0
        sparsity = state["sparsity"]
        if starts_epoch and num_segments:
            masks = {"a": jnp.roll(sparsity.masks["a"], 1, axis=1)}
            explored = {"a": sparsity.explored["a"] | masks["a"]}
            sparsity.masks["a"].delete()  # as where a state is donated
            sparsity = sparsity._replace(masks=masks, explored=explored)
        state, info = toy.train(state, controls, hyper, num_segments)
        return state | {"sparsity": sparsity}, info

    leaves = counted_leaves(
        {"a": jax.ShapeDtypeStruct((2, 4), jnp.float32)}, gates=lambda path, leaf: ("x", "y")
    )
    topology = Topology(lambda state: state["sparsity"], leaves, STEPS)
    return toy._replace(init=init, train=train, topology=topology)


def test_topology_of_an_epoch_is_measured_against_its_start(task, tmp_path):
    candidate = Candidate(0, SparsityConfig(), 0)
    found = [
        run_epoch(task, tmp_path, candidate, epoch, {}, lambda done: None).topology
        for epoch in (1, 2)
    ]
    # 1100 1000 -> 0110 0100 -> 0011 0010: one of three weights stays, and two or three new ones
    # are met. The gates are the two columns on the left and the two on the right.
    assert found[0] == {
        "density": {"a/x": 0.5, "a/y": 0.25},
        "overlap": 0.333333,
        "explored": 0.625,
    }
    assert found[1] == {
        "density": {"a/x": 0.0, "a/y": 0.75},
        "overlap": 0.333333,
        "explored": 0.875,
    }


def test_dense_network_has_no_topology(task, tmp_path):
    measured = run_epoch(task, tmp_path, Candidate("dense", DENSE, 0), 1, {}, lambda done: None)
    assert measured.failure is None and measured.topology is None


def test_search_records_the_topology_and_counts_the_winner(task, search_config, tmp_path):
    result = hyperprune(task, search_config(), out=tmp_path).result
    ledger = Ledger(tmp_path / "trials.jsonl")
    best = ledger.get(result["best"]["trial"], result["best"]["epoch"])
    dense, winner = result["counts"]["dense"], result["counts"]["best"]
    assert (dense["weights"], dense["live"], winner["live"]) == (8, 8, 3)
    # Forward 2 FLOPs a weight; here one gradient more every 4 steps.
    assert (dense["flops_forward"], winner["flops_forward"]) == (16, 6)
    assert dense["flops_training"] == {"needed": 48, "executed": 48}
    assert winner["flops_training"] == {"needed": 18, "executed": 60}
    assert (dense["bytes"]["stored"], winner["bytes"]["stored"]) == (32, 3 * 4 + 1)
    densities = {f"a/{part['gate']}": part["live"] / 4 for part in winner["parts"]}
    assert densities == best.topology["density"]
    assert sum(part["explored"] for part in winner["parts"]) / 8 == best.topology["explored"]
    assert all(record.topology is None for record in ledger.history("dense"))


def test_task_that_does_not_tell_its_masks_is_searched_without_counts(
    toy_task, search_config, tmp_path
):
    found = hyperprune(toy_task(), search_config(max_evals=2), out=tmp_path)
    assert "counts" not in found.result
    assert all(record.topology is None for record in found.records)
