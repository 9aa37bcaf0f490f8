"""A network of one's own as a task: three functions and three sets of batches behind the protocol.

The network is known by how it starts, by its loss on a batch of sequences and by its Lyapunov
spectrum; everything else that a search asks for (`lsh_jax.search.task`) is made here.
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsh_jax.config import SpaceConfig, SparsityConfig, check
from lsh_jax.optimizers import momentum_of
from lsh_jax.saved_params import save_params
from lsh_jax.search.fingerprint import hash_arrays, hash_programs, surroundings
from lsh_jax.search.measure import NLL, Measure, check_measure
from lsh_jax.search.sequence_batches import SequenceBatches, checked_batches
from lsh_jax.search.sequence_space import check_own_space, fields_read
from lsh_jax.search.task import Split, Task, Topology, TrainInfo, segments_between_updates
from lsh_jax.sequence_training import (
    Batch,
    Loss,
    Optimizer,
    SequenceState,
    adam,
    evaluate_batches,
    init_state,
    train_segment,
    update_topology,
)
from lsh_jax.sparsity import Controls, count_live, dynamic_sparsity
from lsh_jax.sparsity import controls as make_controls
from lsh_jax.sparsity.counting import CountedLeaves, counted_leaves
from lsh_jax.types import Array, Hyper, Key, Params, Predicate


class SequenceNetwork(NamedTuple):
    """A network as pure functions that run under `jit`.

    Attributes:
      init: `init(key) -> params`, any pytree of arrays.
      loss: `loss(params, batch, key) -> (total, count)`: the sum of the negative log-likelihoods
        of a batch in nats, and the number of predictions that it is over, a scalar each. The key
        is for noise such as dropout; it is None in evaluation, where there must be none.
      spectrum: `spectrum(params) -> (exponents, std_error)`, [L, K] each, along inputs that are the
        same for every network; `lsh_jax.sequence_models.driven_spectrum` makes them of any cell.
        A LyapunovResult will do too, of one system [K] or of layers of equal width.
    """

    init: Callable[[Key], Params]
    loss: Loss
    spectrum: Callable[[Params], tuple[Array, Array]]


class _Programs(NamedTuple):
    """The jitted functions of a task; tasks that differ in their seed alone share them."""

    init: Any
    train: Any
    update: Any
    evaluate: Any
    spectrum: Any
    count: Any


class _Parts(NamedTuple):
    """What a task is made of, its seed apart."""

    name: str
    data: SequenceBatches
    hyper: Hyper
    programs: _Programs
    settings: Callable[[], Mapping[str, Any]]  # those of the fingerprint
    leaves: CountedLeaves
    check_space: Callable[[SpaceConfig], None]
    baseline_nll: Mapping[str, float] | None
    patience: int
    measure: Measure


def make_sequence_task(
    name: str,
    network: SequenceNetwork,
    data: SequenceBatches,
    *,
    learning_rate: float,
    clip: float = math.inf,
    weight_decay: float = 0.0,
    optimizer: Optimizer = adam,
    patience: int = 0,
    prunable: Predicate | None = None,
    gates: Callable[[tuple[str, ...], Array], tuple[str, ...]] | None = None,
    baseline_nll: Mapping[str, float] | None = None,
    measure: Measure = NLL,
    seed: int = 0,
) -> Task:
    """Builds the task of training a network of one's own on batches of sequences.

    A batch is a step of the optimizer; nothing is carried from one to the next but the weights.
    The fingerprint holds the name, the hyperparameters, hashes of the data and of all programs as
    they are compiled, versions, cores and backend: a dense run in a cache is found again only where
    it would come out the same.

    Args:
      name: what is trained, for people.
      network: its functions.
      data: what it is trained and measured on.
      learning_rate: step size, > 0.
      clip: largest norm of the dense gradient, > 0; inf turns clipping off.
      weight_decay: coefficient of the L2 penalty's gradient, >= 0.
      optimizer: from traced hyperparameters to an optax transform that keeps its slots weight by
        weight: `adam`, `sgd` and `momentum_sgd` of `lsh_jax.sequence_training`, or
        `lambda hyper: optax.rmsprop(hyper.learning_rate)`. What it reads of them, a search may
        choose (`SpaceConfig.learning_rate`).
      patience: epochs without a better validation nll after which training ends; 0 for never.
      prunable: predicate on (path, leaf); by default leaves of two axes or more.
      gates: as for `dynamic_sparsity`.
      baseline_nll: of a predictor that knows little on "validation" and "test", such as one without
        memory; nats per prediction.
      measure: how people are told of an nll: `Measure("rms", scale, "no-change")` where the loss is
        `gaussian_nll` of that scale, `Measure("perplexity")` where it is of words; the nll itself
        if not given. The last is what the predictor of `baseline_nll` is called.
      seed: of initial weights and of the key that the loss gets.

    Returns:
      A Task.

    Raises:
      ConfigError: when an argument is out of range, or the functions and the data do not fit.
    """
    check(0 < learning_rate < math.inf, "learning_rate", "be above 0 and finite", learning_rate)
    check(clip > 0, "clip", "be above 0 (inf turns clipping off)", clip)
    check(0 <= weight_decay < math.inf, "weight_decay", "be 0 or above", weight_decay)
    check(patience >= 0, "patience", "be at least 0", patience)
    _check_baseline(baseline_nll)
    check_measure(measure)
    data = checked_batches(data)
    hyper = Hyper(learning_rate, clip, weight_decay, 0.0, 0.0, 0.0, 0.0)
    programs = _compile(network, optimizer, hyper, prunable, gates)
    state = _check_shapes(network, programs, data, hyper)
    leaves = counted_leaves(state.params, prunable=prunable, gates=gates)
    pruned = [leaf for leaf in leaves if leaf.prunable]
    parts = _Parts(
        name=name,
        data=data,
        hyper=hyper,
        programs=programs,
        settings=functools.cache(functools.partial(_settings, name, data, hyper, programs)),
        leaves=leaves,
        check_space=functools.partial(
            check_own_space,
            read=fields_read(optimizer, hyper),
            momentum=jax.eval_shape(momentum_of, state.opt_state) is not None,
            gates=any(leaf.gates for leaf in pruned),
            matrices=all(len(leaf.shape) == 2 for leaf in pruned),
        ),
        baseline_nll=baseline_nll,
        patience=patience,
        measure=measure,
    )
    return _make_task(parts, seed)


def _make_task(parts: _Parts, seed: int) -> Task:
    init_key, noise_key = jax.random.split(jax.random.key(seed))
    programs, data = parts.programs, parts.data
    segments, batches_each = jax.tree.leaves(data.train)[0].shape[:2]

    def init(key: Key, controls: Controls, hyper: Hyper) -> SequenceState:
        del hyper
        state: SequenceState = programs.init(init_key, key, controls)
        _check_finite(state.params)
        return state

    def train(
        state: SequenceState, controls: Controls, hyper: Hyper, num_segments: int
    ) -> tuple[SequenceState, TrainInfo]:
        info = TrainInfo(0.0, 0.0, 0.0, 0, int(programs.count(state.sparsity.masks)))
        interval = segments_between_updates(float(controls.update_every), segments)
        for _ in range(num_segments):
            done = int(state.num_segments)
            batches = _pick(data.train, done % segments)
            churn, updates = 0.0, 0
            if done > 0 and interval and done % interval == 0:
                state, update = programs.update(state, controls, _pick(batches, 0))
                churn, updates = float(update.churn), 1
            state, total, count = programs.train(state, _traced(hyper), batches, noise_key)
            info = TrainInfo(
                nll_sum=info.nll_sum + float(total),
                num_tokens=info.num_tokens + float(count),
                churn_sum=info.churn_sum + churn,
                num_updates=info.num_updates + updates,
                nonzeros=int(programs.count(state.sparsity.masks)),
            )
        return state, info

    def block_nll(state: SequenceState, split: Split) -> tuple[np.ndarray, np.ndarray]:
        sums, counts = programs.evaluate(state, getattr(data, split))
        counted = bool((counts > 0).all())  # as the bootstrap needs
        check(counted, "loss", f"count predictions in every batch of data.{split}", counts.tolist())
        return np.asarray(sums, np.float64), np.asarray(counts, np.float64)

    def evaluate(state: SequenceState, split: Split) -> float:
        sums, counts = block_nll(state, split)
        return float(sums.sum() / counts.sum())

    def spectrum(state: SequenceState) -> tuple[np.ndarray, np.ndarray]:
        exponents, std_error = programs.spectrum(state)
        return np.asarray(exponents), np.asarray(std_error)

    def save(state: SequenceState, path: pathlib.Path) -> None:
        save_params(path, state.params, state.sparsity.masks, {"task": parts.name, "seed": seed})

    return Task(
        init=init,
        train=train,
        evaluate=evaluate,
        block_nll=block_nll,
        spectrum=spectrum,
        fingerprint=lambda: json.dumps({**parts.settings(), "seed": seed}, sort_keys=True),
        segments_per_epoch=segments,
        hyper=parts.hyper,
        with_seed=lambda other: _make_task(parts, other),
        save=save,
        baseline_nll=parts.baseline_nll,
        topology=Topology(
            state=lambda state: state.sparsity,
            leaves=parts.leaves,
            steps_per_epoch=segments * batches_each,
        ),
        check_space=parts.check_space,
        patience=parts.patience,
        measure=parts.measure,
    )


def _compile(
    network: SequenceNetwork,
    optimizer: Optimizer,
    hyper: Hyper,
    prunable: Predicate | None,
    gates: Callable[..., Any] | None,
) -> _Programs:
    updater = dynamic_sparsity(prunable, gates=gates, track_signs=True)
    any_settings = optimizer(hyper)  # for its `init`
    own = network.loss
    return _Programs(
        init=jax.jit(functools.partial(init_state, network.init, any_settings, updater)),
        train=jax.jit(functools.partial(train_segment, own, optimizer)),
        update=jax.jit(functools.partial(update_topology, own, any_settings, updater)),
        evaluate=jax.jit(lambda state, batches: evaluate_batches(own, state.params, batches)),
        spectrum=jax.jit(lambda state: _exponents_and_errors(network.spectrum(state.params))),
        count=jax.jit(functools.partial(count_live, prunable=prunable)),
    )


def _settings(
    name: str, data: SequenceBatches, hyper: Hyper, programs: _Programs
) -> dict[str, Any]:
    """What the fingerprint tells."""
    key, controls, segment = jax.random.key(0), _any_controls(), _pick(data.train, 0)
    state = jax.eval_shape(programs.init, key, key, controls)
    return {
        "task": name,
        "recipe": {field: "inf" if x == math.inf else x for field, x in hyper._asdict().items()},
        "sizes": {
            jax.tree_util.keystr(path): list(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
        },
        "data": hash_arrays(data),
        "programs": hash_programs(
            programs.init.lower(key, key, controls),
            programs.train.lower(state, _traced(hyper), segment, key),
            programs.update.lower(state, controls, _pick(segment, 0)),
            programs.evaluate.lower(state, data.validation),
            programs.spectrum.lower(state),
        ),
        **surroundings(),
    }


def _any_controls() -> Controls:
    return make_controls(SparsityConfig())


def _pick(batches: Batch, index: int) -> Batch:
    return jax.tree.map(lambda leaf: leaf[index], batches)


def _traced(hyper: Hyper) -> Hyper:
    return Hyper(*(jnp.asarray(value, jnp.float32) for value in hyper))


def _exponents_and_errors(found: Any) -> tuple[Array, Array]:
    """What `SequenceNetwork.spectrum` returns as a pair, [L, K] each."""
    condition = "return exponents and their errors, [L, K] each, or a LyapunovResult"
    if hasattr(found, "exponents"):
        layered = isinstance(found.exponents, tuple)
        check(not layered, "spectrum", condition, "layers of unequal width")
        found = (jnp.atleast_2d(found.exponents), jnp.atleast_2d(found.std_error))
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(found)]
    pair = isinstance(found, tuple | list) and len(found) == len(shapes) == 2
    fits = pair and shapes[0] == shapes[1] and len(shapes[0]) == 2
    check(fits, "spectrum", condition, shapes)
    return found[0], found[1]


def _check_finite(params: Params) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        number = jnp.issubdtype(leaf.dtype, jnp.inexact)
        finite = not number or bool(jnp.isfinite(leaf).all())
        check(finite, "init", "return finite weights", f"NaN or infinity in {name}")


def _check_shapes(
    network: SequenceNetwork, programs: _Programs, data: SequenceBatches, hyper: Hyper
) -> SequenceState:
    """Tries all functions on shapes alone; returns those of the state."""
    key, controls, segment = jax.random.key(0), _any_controls(), _pick(data.train, 0)
    state: SequenceState = jax.eval_shape(programs.init, key, key, controls)
    batch = _pick(data.validation, 0)
    found = jax.eval_shape(lambda params: network.loss(params, batch, None), state.params)
    shapes = [leaf.shape for leaf in jax.tree.leaves(found)]
    scalars = isinstance(found, tuple | list) and len(found) == 2 and shapes == [(), ()]
    condition = "return two scalars, the sum of the nlls and the number of predictions"
    check(scalars, "loss", condition, f"shapes {shapes}")
    jax.eval_shape(programs.evaluate, state, data.validation)
    jax.eval_shape(programs.train, state, _traced(hyper), segment, key)
    jax.eval_shape(programs.update, state, controls, _pick(segment, 0))
    jax.eval_shape(programs.spectrum, state)
    return state


def _check_baseline(baseline_nll: Mapping[str, float] | None) -> None:
    if baseline_nll is None:
        return
    known = set(baseline_nll) == {"validation", "test"}
    check(known, "baseline_nll", 'have "validation" and "test"', sorted(baseline_nll))
    finite = all(map(math.isfinite, baseline_nll.values()))
    check(finite, "baseline_nll", "be finite", dict(baseline_nll))
