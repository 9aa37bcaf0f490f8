import json
import math

import numpy as np
import pytest

from lsh_jax.config import (
    ConfigError,
    ModelConfig,
    SearchConfig,
    SpaceConfig,
    SparsityConfig,
    SpectrumConfig,
    TrainConfig,
    check,
    check_choice,
)
from lsh_jax.types import Hyper

CONFIGS = (ModelConfig, SparsityConfig, TrainConfig, SpectrumConfig, SpaceConfig, SearchConfig)
NAN, INF = math.nan, math.inf

# Counts refuse what is no whole number, besides what is too small.
NOT_COUNTS = (NAN, INF, -INF, -1, 2.5, "3", None, True)
NOT_POSITIVE = (*NOT_COUNTS, 0)
CHOICES = ("", "no such name", None, 0, ["magnitude"])
NOT_FLAGS = (None, 0, 1, "True", np.True_)
NOT_NUMBERS = (NAN, -INF, -0.1, "0.5", None, True)
NOT_RATES = (*NOT_NUMBERS, 1.0, 1.5, INF)  # [0, 1)

REFUSED = {
    ModelConfig: {
        "cell": CHOICES,
        "vocab_size": (*NOT_POSITIVE, 1),
        "embed_size": NOT_POSITIVE,
        "hidden_size": NOT_POSITIVE,
        "num_layers": NOT_POSITIVE,
        "depth": (*NOT_POSITIVE, 2),  # the default cell is no RHN
        "coupled": (*NOT_FLAGS, False),
        "tied": NOT_FLAGS,
        "layer_sizes": (None, 3, [3, 3], (3,), (3, 3, 3), (3, 0), (3, 2.0), (3, True), ("3", 3)),
        "init_bound": (*NOT_NUMBERS, INF),
        "transform_bias": (NAN, INF, -INF, "0.5", None, True),
        "two_biases": NOT_FLAGS,
    },
    SparsityConfig: {
        "sparsity": NOT_RATES,
        "init": CHOICES,
        "death": CHOICES,
        "growth": CHOICES,
        "redistribution": CHOICES,
        "death_rate": (*NOT_NUMBERS, 1.01, INF),
        "schedule": CHOICES,
        "horizon": NOT_POSITIVE,
        "update_every": (*NOT_NUMBERS, 0),
        "init_sampling": CHOICES,
        "threshold_init": (*NOT_NUMBERS, INF),
        "exclude_dropped": NOT_FLAGS,
        "rate_floor": (*NOT_NUMBERS, 1.01, INF),
        "stop_fraction": (*NOT_NUMBERS, 0, 1.01, INF),
        "sparsity_schedule": CHOICES,
    },
    TrainConfig: {
        "momentum": NOT_RATES,
        "learning_rate": (*NOT_NUMBERS, 0, INF),
        "clip": (*NOT_NUMBERS, 0),
        "weight_decay": (*NOT_NUMBERS, INF),
        "dropout_embed": NOT_RATES,
        "dropout_input": NOT_RATES,
        "dropout_hidden": NOT_RATES,
        "dropout_output": NOT_RATES,
        "batch_size": NOT_POSITIVE,
        "bptt": NOT_POSITIVE,
        "segments_per_epoch": NOT_POSITIVE,
        "eval_batch_size": NOT_POSITIVE,
        "decay": (*NOT_NUMBERS, 0, 0.99, INF),
        "decay_after": NOT_POSITIVE,
        "averaging": CHOICES,
        "nonmonotone": NOT_COUNTS,
        "patience": NOT_COUNTS,
        "precision": (*CHOICES, "float16"),
        "locked_dropout": NOT_FLAGS,
        "max_train_tokens": NOT_COUNTS,
        "max_eval_tokens": NOT_COUNTS,
    },
    SpectrumConfig: {
        "state": CHOICES,
        "share": (*NOT_NUMBERS, 0, 1.01, INF),
        "length": NOT_POSITIVE,
        "burn_in": NOT_COUNTS,
        "batch": NOT_POSITIVE,
    },
    SpaceConfig: {
        "init": ((), ("er", "er"), ("no such name",), "er", ["er"], ("er", "given")),
        "death": ((), ("set", "set"), ("set", "no such name"), "set", ["set"]),
        "growth": ((), ("random", "random"), ("",), "random"),
        "redistribution": ((), ("none", "none"), (None,), "none"),
        "death_rate": ((), (0.5, 0.5), (0.5, 1.5), (NAN,), (-0.1,), ("0.5",), 0.5),
        "update_every": ((), (1.0, 1.0), (0.0,), (NAN,), (-INF,), 1.0),
        "init_sampling": ((), ("exact", "exact"), ("no such name",), "exact"),
        "threshold_init": ((), (0.1, 0.1), (-0.1,), (INF,), ("0.1",), 0.1),
        "exclude_dropped": ((), (True, True), (1,), ("True",), True),
        "schedule": ((), ("cosine", "cosine"), ("no such name",), "cosine"),
        "rate_floor": ((), (0.1, 0.1), (1.1,), (NAN,), 0.1),
        "stop_fraction": ((), (1.0, 1.0), (0.0,), (NAN,), 1.0),
        "learning_rate": ((1.0, 1.0), (0.0,), (INF,), ("1",), 1.0),
        "clip": ((1.0, 1.0), (0.0,), (NAN,), 1.0),
        "weight_decay": ((1.0, 1.0), (-0.1,), (INF,), 1.0),
        "dropout_embed": ((0.1, 0.1), (1.0,), (-0.1,), 0.1),
        "dropout_input": ((0.1, 0.1), (1.0,), (-0.1,), 0.1),
        "dropout_hidden": ((0.1, 0.1), (1.0,), (-0.1,), 0.1),
        "dropout_output": ((0.1, 0.1), (1.0,), (-0.1,), 0.1),
    },
    SearchConfig: {
        "metric": CHOICES,
        "algo": CHOICES,
        "max_evals": NOT_POSITIVE,
        "e0": NOT_POSITIVE,
        "ei": NOT_POSITIVE,
        "final_epochs": NOT_POSITIVE,
        "finalists": NOT_POSITIVE,
        "sparsity": (*NOT_RATES, 0),
        "seed": (*NOT_COUNTS, 2**31),
        "ask_batch": NOT_POSITIVE,
        "reference": CHOICES,
        "halving": CHOICES,
        "eta": (*NOT_POSITIVE, 1),
        "dense_seeds": NOT_POSITIVE,
        "try_first": ("death=set", ("death=set",) * 41, (1,), ["death=set"]),
        "settled_after": NOT_COUNTS,
    },
}
CASES = [
    (config, name, value)
    for config, fields in REFUSED.items()
    for name, values in fields.items()
    for value in values
]

ACCEPTED = [
    (ModelConfig, {"vocab_size": 2, "embed_size": 1, "hidden_size": 1, "num_layers": 1}),
    (ModelConfig, {"hidden_size": np.int64(3)}),
    (ModelConfig, {"cell": "rhn", "depth": 10, "coupled": False, "tied": True}),
    (ModelConfig, {"layer_sizes": (7, 200), "tied": True, "hidden_size": 3}),
    (ModelConfig, {"init_bound": 0.04, "transform_bias": 1.5, "two_biases": True}),
    (TrainConfig, {"decay": 1, "decay_after": 1, "nonmonotone": 0, "patience": 0}),
    (TrainConfig, {"averaging": "nt-asgd", "precision": "bfloat16", "locked_dropout": True}),
    (SparsityConfig, {"sparsity": 0, "death_rate": 0.0, "update_every": INF}),
    (SparsityConfig, {"sparsity": 0.999, "death_rate": 1, "horizon": 1}),
    (SparsityConfig, {"rate_floor": 1, "stop_fraction": 1e-3, "threshold_init": 0}),
    (SpaceConfig, {"learning_rate": (1.0, 2.0), "clip": (INF,), "exclude_dropped": (False, True)}),
    (TrainConfig, {"clip": INF, "weight_decay": 0, "dropout_input": 0, "learning_rate": 1e-9}),
    (TrainConfig, {"batch_size": 1, "bptt": 1, "segments_per_epoch": 1, "max_train_tokens": 0}),
    (SpectrumConfig, {"state": "full", "share": 1, "length": 4, "burn_in": 0, "batch": 1}),
    (SpaceConfig, {"death": ("set",), "death_rate": (0.0, 1.0), "update_every": (0.25, INF)}),
    (SearchConfig, {"seed": 0, "max_evals": 1, "finalists": 1, "e0": 2, "ei": 1}),
    (SearchConfig, {"seed": 2**31 - 1, "sparsity": 0.001, "halving": "authors"}),
]


@pytest.mark.parametrize(("config", "name", "value"), CASES)
def test_a_bad_value_is_refused_by_a_message_that_names_the_setting(config, name, value):
    with pytest.raises(ConfigError, match=name):
        config(**{name: value})


def test_every_setting_has_bad_values_in_the_table():
    for config, fields in REFUSED.items():
        nested = {"space"} if config is SearchConfig else set()
        assert set(config.__dataclass_fields__) == set(fields) | nested


@pytest.mark.parametrize(("config", "values"), ACCEPTED)
def test_values_at_the_edge_of_their_range_are_accepted(config, values):
    made = config(**values)
    assert {name: getattr(made, name) for name in values} == values


@pytest.mark.parametrize("cell", ["lstm", "gru", "tanh"])
@pytest.mark.parametrize(("name", "value"), [("depth", 2), ("coupled", False)])
def test_what_an_rhn_alone_has_is_refused_for_another_cell(cell, name, value):
    with pytest.raises(ConfigError, match=f"`{name}` must be .* with cell={cell}"):
        ModelConfig(cell, **{name: value})


def test_averaging_goes_without_momentum():
    with pytest.raises(ConfigError, match=r"`momentum` must be 0 with averaging=nt-asgd, got 0\.9"):
        TrainConfig(momentum=0.9, averaging="nt-asgd")


@pytest.mark.parametrize("sizes", [{}, {"hidden_size": 200, "layer_sizes": (200, 30)}])
def test_a_tied_decoder_wants_a_last_layer_as_wide_as_the_embedding(sizes):
    with pytest.raises(ConfigError, match=r"`tied` needs .* set `embed_size` to (30|200), or give"):
        ModelConfig(embed_size=100, tied=True, **sizes)


def test_the_widths_are_the_layer_sizes_or_the_hidden_size_of_every_layer():
    assert ModelConfig(hidden_size=7, num_layers=3).widths == (7, 7, 7)
    assert ModelConfig(hidden_size=7, layer_sizes=(5, 6)).widths == (5, 6)


def test_a_message_names_the_setting_the_condition_and_the_value():
    with pytest.raises(ConfigError) as caught:
        check(False, "density", "lie in (0, 1]", 1.2)
    assert str(caught.value) == "`density` must lie in (0, 1], got 1.2."
    with pytest.raises(ConfigError) as caught:
        check_choice("death", "set2", ("magnitude", "set"))
    assert str(caught.value) == "`death` must be one of magnitude, set, got 'set2'."
    assert isinstance(caught.value, ValueError)


def test_the_settings_of_the_spectrum_carry_their_prefix():
    with pytest.raises(ConfigError, match=r"`spectrum\.length` must be at least 1, got 0"):
        SpectrumConfig(length=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_are_valid_hashable_and_frozen(config):
    made = config()
    assert hash(made) == hash(config())
    with pytest.raises(AttributeError):
        setattr(made, next(iter(config.__dataclass_fields__)), None)


@pytest.mark.parametrize(("config", "values"), ACCEPTED[:1] + ACCEPTED[2:])
def test_settings_come_back_from_strict_json_as_they_were(config, values):
    made = config(**values)
    text = json.dumps(made.to_json(), allow_nan=False)  # infinity is no JSON
    assert config.from_json(json.loads(text)) == made


def test_a_search_comes_back_with_its_space_tuples_and_infinities():
    space = SpaceConfig(death=("set", "threshold"), update_every=(0.5, INF))
    made = SearchConfig(space=space, seed=7)
    plain = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert plain["space"]["update_every"] == [0.5, "inf"]
    back = SearchConfig.from_json(plain)
    assert back == made
    assert back.space.update_every == (0.5, INF)
    assert type(back.space.death) is tuple


def test_settings_left_out_of_the_json_take_their_defaults():
    assert TrainConfig.from_json({"bptt": 5}) == TrainConfig(bptt=5)
    assert SearchConfig.from_json({}) == SearchConfig()


@pytest.mark.parametrize("config", CONFIGS)
def test_an_unknown_key_is_refused(config):
    with pytest.raises(ConfigError, match="hidden_sise"):
        config.from_json({"hidden_sise": 3})


def test_an_unknown_key_of_the_space_is_refused():
    with pytest.raises(ConfigError, match="depth"):
        SearchConfig.from_json({"space": {"depth": [1]}})


@pytest.mark.parametrize("value", [None, [], 3, "text"])
def test_what_is_no_json_object_is_refused(value):
    with pytest.raises(ConfigError, match="ModelConfig"):
        ModelConfig.from_json(value)


@pytest.mark.parametrize(
    ("e0", "update_every"),
    [(1, (1.0,)), (1, (0.25, 1.0)), (1, (1.0, INF)), (2, (0.5, 2.0)), (2, (3.0,))],
)
def test_a_first_score_before_a_topology_update_has_taken_effect_is_refused(e0, update_every):
    with pytest.raises(ConfigError, match="`e0` must exceed"):
        SearchConfig(e0=e0, space=SpaceConfig(update_every=update_every))


@pytest.mark.parametrize(
    ("e0", "update_every"),
    [(1, (0.5,)), (2, (1.0,)), (1, (INF,)), (1, (0.25, 0.5, INF)), (3, (2.0, INF))],
)
def test_a_first_score_after_an_update_or_of_static_topologies_is_accepted(e0, update_every):
    SearchConfig(e0=e0, space=SpaceConfig(update_every=update_every))


def test_the_traced_part_of_the_recipe_is_named_alike():
    recipe = TrainConfig(learning_rate=3.0, clip=INF, weight_decay=0.1, dropout_embed=0.1)
    assert recipe.hyper() == Hyper(3.0, INF, 0.1, 0.1, 0.2, 0.2, 0.2)
