"""Language models side by side, against the same ones trained alone."""

import dataclasses
import math
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsh_jax.config import ModelConfig, SearchConfig, SpaceConfig, SparsityConfig, TrainConfig
from lsh_jax.data import Corpus
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.language_model_task import make_language_model_task
from lsh_jax.search.ledger import Ledger
from lsh_jax.sparsity import controls as make_controls

TOKENS = np.random.default_rng(0).integers(20, size=4000).astype(np.int32)
CONFIGS = (
    SparsityConfig(death="magnitude", growth="gradient", update_every=0.5),
    SparsityConfig(death="set", growth="random", update_every=1.0, sparsity=0.8),
    SparsityConfig(update_every=math.inf),
    SparsityConfig(death="threshold", growth="random", update_every=0.5),
)
RATES = (5.0, 10.0, 20.0, 1e38)  # the last one's weights are NaN after a step
NUM_SEGMENTS = 4  # two epochs: with updates within, between and at the start


def make_task(**recipe):
    text = Corpus(TOKENS[:1000], TOKENS[2000:3000], TOKENS[3000:], tuple(map(str, range(20))), "")
    model = ModelConfig(vocab_size=20, embed_size=4, hidden_size=6, num_layers=1)
    return make_language_model_task(
        text, model, TrainConfig(batch_size=5, segments_per_epoch=2, **recipe)
    )


@pytest.fixture(scope="module")
def task():
    return make_task(averaging="nt-asgd")


@pytest.fixture(scope="module")
def candidates(task):
    """Controls and hyperparameters, and a maker of fresh states; the second one averages."""
    controls = [make_controls(config) for config in CONFIGS]
    hypers = [task.hyper._replace(learning_rate=rate) for rate in RATES]

    def start():
        own = zip(controls, hypers, strict=True)
        states = [task.init(jax.random.key(i), *pair) for i, pair in enumerate(own)]
        states[1] = states[1]._replace(averaging=jnp.array(True))
        return states

    return controls, hypers, start


def numbers(tree):
    def number(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(number, tree)


def assert_alike(found, expected):
    """Integers and flags are equal; floats differ by rounding alone."""

    def check(one, other):
        assert one.dtype == other.dtype
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(one, other)

    jax.tree.map(check, numbers(found), numbers(expected))


@pytest.mark.slow
def test_candidates_become_side_by_side_what_they_become_alone(task, candidates):
    controls, hypers, start = candidates
    alone, infos = [], []
    for own in zip(start(), controls, hypers, strict=True):
        state, done = own[0], []
        for _ in range(NUM_SEGMENTS):
            state, info = task.train(state, *own[1:], 1)
            done.append(info)
        alone.append(state)
        infos.append(done)
    group, together = task.side_by_side.stack(start(), controls, hypers), []
    for _ in range(NUM_SEGMENTS):
        group, found = task.side_by_side.train(group)
        together.append(found)
    together = [list(own) for own in zip(*together, strict=True)]
    for state, expected, found, own in zip(
        task.side_by_side.unstack(group), alone, together, infos, strict=True
    ):
        assert [info[3:] for info in found] == [info[3:] for info in own]  # updates, live weights
        np.testing.assert_allclose(found, own, rtol=1e-4)
        if np.isfinite(own[-1].nll_sum):
            assert_alike(state.params, expected.params)
            assert_alike(state.sparsity, expected.sparsity)
            assert_alike(state.carry, expected.carry)
            assert_alike(state[4:], expected[4:])
        if state.averaging:  # of the others averages mean nothing yet
            assert_alike(state.opt_state, expected.opt_state)
    assert [np.isfinite(own[-1].nll_sum) for own in infos] == [True, True, True, False]
    assert [sum(info.num_updates for info in own) for own in infos] == [3, 1, 0, 3]


def test_a_stack_gives_back_what_it_is_made_of(task, candidates):
    controls, hypers, start = candidates
    group = task.side_by_side.stack(start()[:2], controls[:2], hypers[:2])
    for found, expected in zip(task.side_by_side.unstack(group), start(), strict=False):
        jax.tree.map(np.testing.assert_array_equal, numbers(found), numbers(expected))


def test_candidates_at_different_segments_make_no_group(task, candidates):
    controls, hypers, start = candidates
    first, second, *_ = start()
    second = second._replace(num_segments=second.num_segments + 1)
    with pytest.raises(ValueError, match="equally many segments"):
        task.side_by_side.stack([first, second], controls[:2], hypers[:2])


@pytest.mark.slow
def test_memory_grows_by_a_state_a_candidate_at_least(task, candidates):
    one, two = (task.side_by_side.num_bytes(size) for size in (1, 2))
    (state, *_) = candidates[2]()
    assert two - one >= 0.9 * sum(leaf.nbytes for leaf in jax.tree.leaves(numbers(state)))


EXACT = ("trial", "epoch", "round", "controls", "seed", "status", "averaging", "nonzeros")
CLOSE = ("score", "ls_distance", "train_nll", "val_nll", "churn")


@pytest.mark.slow
@pytest.mark.long
def test_the_ledger_of_a_search_is_that_of_one_by_one(tmp_path):
    task = make_task(patience=5)
    space = SpaceConfig(
        growth=("random", "gradient"), update_every=(0.5, 1.0), learning_rate=(5.0, 1e38)
    )
    config = SearchConfig(
        max_evals=6, e0=2, ei=1, final_epochs=4, space=space, ask_batch=3, algo="random"
    )
    ledgers = []
    for size in (1, 2, 3):
        run = tmp_path / str(size)
        hyperprune(task, config, out=run, population=size)
        own = [Ledger(run / folder / "trials.jsonl").records() for folder in (".", "tuning")]
        records = [
            dataclasses.asdict(record)
            for ledger in own
            for record in sorted(ledger, key=lambda r: (str(r.trial), r.epoch))
        ]
        ledgers.append(records)
    one_by_one = ledgers[0]
    assert {record["status"] for record in one_by_one} == {"ok", "failed"}
    assert any(record["churn"] for record in one_by_one)
    for records in ledgers[1:]:
        for found, expected in zip(records, one_by_one, strict=True):
            assert [found[name] for name in EXACT] == [expected[name] for name in EXACT]
            assert (found["reason"] is None) == (expected["reason"] is None)
            for name in CLOSE:
                pair = found[name], expected[name]
                if None in pair:
                    assert pair == (None, None)
                else:
                    assert pair[0] == pytest.approx(pair[1], rel=1e-2, abs=1e-3)


SCRIPT = """
    import jax
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    import numpy as np
    import test_stacked_training as here

    task = here.make_task()
    one = here.make_controls(here.CONFIGS[0])
    assert task.side_by_side.num_devices == 2
    controls = [here.make_controls(config) for config in here.CONFIGS[:3]]
    hypers = [task.hyper._replace(learning_rate=rate) for rate in here.RATES[:3]]
    start = lambda: [task.init(jax.random.key(i), c, h)
                     for i, (c, h) in enumerate(zip(controls, hypers, strict=True))]
    group = task.side_by_side.stack(start(), controls, hypers)  # three on two devices: one is twice
    placed = group.state.params["layers_0"]["U"]
    assert {shard.data.shape[0] for shard in placed.addressable_shards} == {2}
    assert len({shard.device for shard in placed.addressable_shards}) == 2
    for _ in range(here.NUM_SEGMENTS):
        group, infos = task.side_by_side.train(group)
        assert len(infos) == 3
    for state, own, c, h in zip(task.side_by_side.unstack(group), start(), controls, hypers,
                                strict=True):
        own, _ = task.train(own, c, h, here.NUM_SEGMENTS)
        assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(state))
        here.assert_alike(state, own)
    print("two devices agree with one")
"""


@pytest.mark.slow
def test_candidates_over_two_devices_become_what_they_become_alone(request):
    folder = str(request.path.parent)
    script = f"import sys; sys.path.insert(0, {folder!r})\n{textwrap.dedent(SCRIPT)}"
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == "two devices agree with one\n", run.stderr
