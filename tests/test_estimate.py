"""What the plan says before a search starts."""

import dataclasses

import numpy as np
import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.data import Corpus
from lsh_jax.estimate import (
    Estimate,
    Resources,
    describe_plan,
    describe_population,
    estimate,
    spectra_bytes,
    total_epochs,
)
from lsh_jax.flops import SearchFlops
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


def with_resources(executed):
    flops = SearchFlops(training=executed, evaluation=0, spectra=0, needed=executed // 2)
    return cost()._replace(resources=Resources(flops, 41.25e9, 3 * MIB, 2 * MIB))


@pytest.mark.parametrize(
    ("executed", "text"),
    [
        (1_234, "1.23e-06 GFLOP"),
        (3_400_000_000, "3.40 GFLOP"),
        (741_200_000_000, "741 GFLOP"),
        (999_600_000_000, "1.00 TFLOP"),
        (5_274_000_000_000, "5.27 TFLOP"),
        (123_456 * 10**15, "123,000 PFLOP"),
    ],
)
def test_operations_are_told_to_three_digits(executed, text):
    plan = describe_plan(SETTINGS, with_resources(executed))
    (line,) = [line for line in plan.splitlines() if line.startswith("Compute: ")]
    assert f"{text} by dense products" in line and f"{text} of training" in line


def test_the_plan_tells_speed_and_memory():
    plan = describe_plan(SETTINGS, with_resources(10**12))
    assert "\nSpeed: 41.2 GFLOP/s in the windows of training that were measured\n" in plan
    memory = "Memory: about 3.0 MiB of a device for the program that trains one network, 2.0 MiB"
    assert f"\n{memory} of it for its state\n" in plan
    several = describe_plan(SETTINGS, with_resources(10**12)._replace(workers=4))
    assert f"{memory} of it for its state, for each of 4 workers\n" in several


def test_several_workers_shorten_the_time():
    one, four = cost(), cost()._replace(workers=4, epochs_in_turn=6)
    assert (one.seconds, four.seconds) == (28.0, 12.0)
    plan = describe_plan(SETTINGS, four)
    assert "Time: about 12 s, 2 s an epoch" in plan
    assert "4 candidates at a time where there are as many: 6 epochs in turn" in plan
    assert "in turn" not in describe_plan(SETTINGS, one)


def test_the_plan_has_a_table_of_its_rounds():
    lines = describe_plan(SETTINGS, cost()).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Rounds: "))
    rows = [line.split() for line in lines[start + 1 : start + 9]]
    assert rows[0] == ["round", "entering", "epochs", "each", "epochs", "trained", "share"]
    assert rows[1] == ["dense", "1", "12", "12", "14.8", "%"]
    assert rows[2] == ["0,", "the", "pool", "12", "4", "48", "59.3", "%"]
    assert rows[-1] == ["total", "81", "100", "%"] and total_epochs(SETTINGS) == 81
    assert lines[start + 9].startswith("Epochs: 69 of candidates and 12 of the dense network")


def test_files_of_spectra_are_counted_with_their_blocks_and_archives():
    """2 layers x 96 exponents are 768 bytes and a header of 128: a block of 4096."""
    settings = with_train(averaging="none")
    epochs, dense = 81, 12
    assert spectra_bytes(settings) == 2 * (4096 * (epochs + dense) + (896 + 256) * epochs)
    assert spectra_bytes(SETTINGS) == 2 * spectra_bytes(settings)  # of averages too


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


@pytest.mark.slow
def test_a_plan_tells_what_the_compiler_and_the_clock_say():
    tokens = np.random.default_rng(0).integers(20, size=20_000).astype(np.int32)
    corpus = Corpus(tokens[:10_000], tokens[10_000:15_000], tokens[15_000:], ("x",) * 20, "")
    model = ModelConfig(vocab_size=20, embed_size=8, hidden_size=8, num_layers=1)
    found = estimate(dataclasses.replace(SETTINGS, model=model), corpus, workers=4)
    assert found.resources.program_bytes > found.resources.state_bytes > 0
    assert found.resources.flops_per_second > 0
    assert found.epochs_in_turn < found.epochs + found.epochs_dense
    assert found.seconds == found.epochs_in_turn * found.seconds_per_epoch
