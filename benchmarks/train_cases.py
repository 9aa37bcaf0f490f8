"""What `train_step.py` measures: models with their recipes, and the programs of a case."""

import contextlib
import dataclasses
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from turns import Runner, compiled

from lsh_jax import SparsityConfig, dynamic_sparsity, make_language_model, sparsity
from lsh_jax.config import ModelConfig, TrainConfig
from lsh_jax.data.batching import Windows
from lsh_jax.language_models import leaf_gates
from lsh_jax.layers import run_layer
from lsh_jax.presets import PRESETS
from lsh_jax.training import init_train_state, train_segment

_DENSITY = 0.33
_LSTM, _RHN = PRESETS["paper-lstm"], PRESETS["paper-rhn"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, its recipe, and how many windows a run trains on."""

    name: str
    model: ModelConfig
    recipe: TrainConfig
    windows: int

    def facts(self, question: str) -> dict[str, Any]:
        """The case as JSON values."""
        model, recipe = self.model, self.recipe
        return {
            "suite": f"train-{question}",
            "name": self.name,
            "cell": model.cell,
            "hidden_size": model.hidden_size,
            "num_layers": model.num_layers,
            "depth": model.depth,
            "tied": model.tied,
            "vocab_size": model.vocab_size,
            "batch_size": recipe.batch_size,
            "bptt": recipe.bptt,
            "dropout": dropout(recipe),
            "precision": recipe.precision,
            "windows": self.windows,
        }


def dropout(recipe: TrainConfig) -> bool:
    """Whether the recipe drops anything."""
    rates = "dropout_embed", "dropout_input", "dropout_hidden", "dropout_output"
    return any(getattr(recipe, name) for name in rates)


def _lstm(hidden_size: int, rate: float, windows: int, vocab_size: int = 10_000) -> Case:
    model = dataclasses.replace(
        _LSTM.model, vocab_size=vocab_size, embed_size=hidden_size, hidden_size=hidden_size
    )
    rates = dict.fromkeys(("dropout_input", "dropout_hidden", "dropout_output"), rate)
    recipe = dataclasses.replace(_LSTM.train, averaging="none", **rates)
    return Case(f"lstm-{hidden_size}{'' if rate else '-dry'}", model, recipe, windows)


def _rhn(windows: int) -> Case:
    return Case("rhn-830", _RHN.model, dataclasses.replace(_RHN.train, averaging="none"), windows)


CASES = {
    case.name: case
    for case in (
        _lstm(200, 0.2, 16),
        _lstm(200, 0.0, 16),
        _lstm(650, 0.5, 8),
        _lstm(650, 0.0, 8),
        _lstm(1500, 0.65, 2),
        _lstm(1500, 0.0, 2),
        _rhn(2),
    )
}


def smoke() -> list[Case]:
    """Small cases, in seconds."""
    sizes = {"vocab_size": 40, "embed_size": 8, "hidden_size": 8}
    shorter = {"batch_size": 2, "bptt": 5}
    found = []
    for case in (CASES["lstm-200"], CASES["lstm-200-dry"], CASES["rhn-830"]):
        model = dataclasses.replace(case.model, **sizes, depth=2 if case.model.depth > 1 else 1)
        recipe = dataclasses.replace(case.recipe, **shorter)
        found.append(Case(f"smoke-{case.name}", model, recipe, 2))
    return found


def random_windows(case: Case, seed: int = 0) -> Windows:
    """Words drawn evenly, [W, bptt, B]; the cost does not depend on which."""
    shape = (case.windows, case.recipe.bptt, case.recipe.batch_size)
    tokens = jax.random.randint(jax.random.key(seed), (2, *shape), 0, case.model.vocab_size)
    return Windows(tokens[0], tokens[1], jnp.ones(shape, jnp.float32))


def start(case: Case, recipe: TrainConfig | None = None) -> Any:
    """A state of training with masks at a density of 0.33."""
    updater = dynamic_sparsity(gates=leaf_gates(case.model), track_signs=True)
    controls = sparsity.controls(SparsityConfig(1 - _DENSITY))
    key, model = jax.random.key(0), make_language_model(case.model)
    return init_train_state(model, updater, recipe or case.recipe, key, key, controls)


def segment(case: Case, variant: str = "library") -> Runner:
    """A segment of training on the case's windows; each run goes on from the state of the last.

    The state is updated in place, so that what a segment copies once, and an epoch four times, is
    not spread over the few windows here.

    Args:
      case: the case.
      variant: "library"; "autodiff", with a plain scan for a layer; "unmasked", whose optimizer
        applies no masks; "undropped", which draws no masks of dropout (the library draws them at a
        rate of zero too, as the rate is traced); "averaging", which averages at every step.

    Returns:
      A Runner of the mean nll.
    """
    recipe, model = case.recipe, make_language_model(case.model)
    averages = variant == "averaging"
    if averages:
        recipe = dataclasses.replace(recipe, averaging="nt-asgd")
    if variant == "undropped":
        model = _without_dropout(model)

    def train(state: Any, hyper: Any, windows: Windows, key: Any) -> Any:
        return train_segment(model, recipe, state, hyper, windows, key, averaging=averages)

    key, hyper = jax.random.key(1), jax.tree.map(jnp.float32, recipe.hyper())
    windows, state = random_windows(case), start(case, recipe)
    if averages:
        state = state._replace(averaging=jnp.ones((), bool))
    with _replaced(variant):
        spent, program = compiled(train, state, hyper, windows, key, donate=True)

    def run() -> Any:
        nonlocal state
        state, nll, num_tokens = program(state, hyper, windows, key)
        return jax.block_until_ready((state, nll / num_tokens))[1]

    return Runner(spent, run)


def plain_layer(*arguments: Any, reverse_only: bool, **options: Any) -> tuple[Any, Any]:
    """A layer that is left to autodiff, whatever it is asked for."""
    del reverse_only
    return run_layer(*arguments, **options)


def _without_dropout(model: Any) -> Any:
    def apply(
        params: Any,
        tokens: Any,
        carry: Any,
        *,
        key: Any,
        dropout: Any,
        locked: bool,
        **options: Any,
    ) -> Any:
        del key, dropout, locked
        return model.apply(params, tokens, carry, **options)

    return model._replace(apply=apply)


def _no_masks() -> Any:
    return optax.with_extra_args_support(optax.identity())


def _replaced(variant: str) -> Any:
    """What of the library stands in for its own while a program is traced."""
    if variant == "autodiff":
        return mock.patch("lsh_jax.language_models.run_layer", plain_layer)
    if variant == "unmasked":
        return mock.patch("lsh_jax.optimizers.mask_updates", _no_masks)
    return contextlib.nullcontext()
