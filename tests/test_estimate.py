"""What the plan says before a search starts."""

import dataclasses

import numpy as np
import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.data import Corpus
from lsh_jax.estimate import Estimate, describe_plan, describe_population, estimate
from lsh_jax.presets import PRESETS
from lsh_jax.search.population import Fit

SETTINGS = dataclasses.replace(PRESETS["quick"], max_evals=12, final_epochs=12)  # 6 in round 1
MIB = 2**20


def with_train(**changes):
    return dataclasses.replace(SETTINGS, train=dataclasses.replace(SETTINGS.train, **changes))


def cost(fit=None):
    return Estimate(10, 4, 0, fit, seconds_per_epoch=2.0, bytes_on_disk=MIB)


def test_epochs_and_time_are_a_bound_where_training_may_end_early():
    plan, bound = (describe_plan(with_train(patience=n), cost()) for n in (0, 3))
    assert "at most" in bound.split("Epochs: ")[1][:8] and "Time: at most about 28 s" in bound
    assert "Epochs: at most" not in plan and "Time: about 28 s" in plan


def test_one_by_one_nothing_is_said_of_groups():
    assert describe_population(SETTINGS, None) == ""
    assert "Side by side" not in describe_plan(SETTINGS, cost())


@pytest.mark.parametrize(
    ("population", "fitting", "size", "words"),
    [
        ("auto", 3, "3 (auto)", None),
        ("auto", 5, "5 (auto)", "Note: the pool of 12 asks for --ask-batch=4 candidates at a time"),
        (2, 5, "2", None),
        (6, 5, "6", "Note: 6 candidates will hardly fit: take --population=auto."),
        (5, 5, "5", "Note: the pool of 12 asks for --ask-batch=4 candidates at a time"),
    ],
)
def test_the_plan_says_how_many_train_side_by_side_and_why(population, fitting, size, words):
    settings = dataclasses.replace(SETTINGS, population=population)
    fit = Fit(fitting=fitting, largest=6, bytes_each=3 * MIB, bytes_limit=2048 * MIB)
    text = describe_population(settings, fit)
    first, *notes = text.splitlines()
    assert first == (
        f"Side by side: {size} candidates, about 3.0 MiB of memory each; {fitting} fit if they "
        "take 2.0 GiB of a device"
    )
    assert (words is None) == (not notes)
    assert words is None or words in text
    assert text in describe_plan(settings, cost(fit))


@pytest.mark.slow
def test_a_plan_of_groups_is_measured_on_the_network_that_is_searched():
    tokens = np.random.default_rng(0).integers(20, size=20_000).astype(np.int32)
    corpus = Corpus(tokens[:10_000], tokens[10_000:15_000], tokens[15_000:], ("x",) * 20, "")
    fits = []
    for width in (8, 64):
        model = ModelConfig(vocab_size=20, embed_size=width, hidden_size=width, num_layers=1)
        settings = dataclasses.replace(SETTINGS, model=model, population="auto")
        fits.append(estimate(settings, corpus).fit)
    assert fits[0].bytes_each < fits[1].bytes_each
    assert fits[0].size == fits[0].largest == 6
    assert estimate(dataclasses.replace(settings, population=1), corpus).fit is None
