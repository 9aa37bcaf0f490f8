"""What people are told of a mean nll."""

import math

import jax.numpy as jnp
import pytest

from lsh_jax.config import ConfigError
from lsh_jax.search.ledger import Record
from lsh_jax.search.measure import NLL, PERPLEXITY, Measure, check_measure, read_measure
from lsh_jax.sequence_models import gaussian_nll

RMS = Measure("rms", 0.02, "no-change")


def test_a_perplexity_is_exp_of_the_nll_and_an_nll_itself():
    assert PERPLEXITY.of(2.0) == math.exp(2)
    assert NLL.of(-3.5) == -3.5


def test_an_rms_error_is_that_of_the_errors_whose_nll_is_given():
    # Errors 0.03 and 0.01: the mean of their squares is 0.0005.
    total, count = gaussian_nll(jnp.array([0.03, -0.01]), 0.02)
    assert RMS.of(float(total / count)) == pytest.approx(math.sqrt(0.0005), rel=1e-6)


@pytest.mark.parametrize("measure", [PERPLEXITY, NLL, RMS])
@pytest.mark.parametrize("nll", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_no_value(measure, nll):
    assert measure.of(nll) is None
    assert measure.shown(measure.of(nll)) == "beyond numbers"


def test_a_perplexity_beyond_numbers_is_none_where_its_error_has_one():
    assert PERPLEXITY.of(5000.0) is None
    assert RMS.of(5000.0) == pytest.approx(0.02 * math.sqrt(10_000 - math.log(2 * math.pi)))
    assert Measure("rms", 1e300).of(1e300) is None


def test_a_record_tells_its_own_perplexity_and_else_what_follows_from_its_nll():
    record = Record(0, 1, 0, {}, 1, val_nll=2.0, val_perplexity=7.5)
    assert PERPLEXITY.of_record(record) == 7.5
    assert NLL.of_record(record) == 2.0
    assert RMS.of_record(record) == RMS.of(2.0)


def test_values_are_short_and_the_baseline_stands_in_brackets():
    assert PERPLEXITY.shown(148.413) + PERPLEXITY.shown_baseline(200.4) == "148.4 (unigram 200)"
    assert RMS.shown(0.0123456) + RMS.shown_baseline(0.36) == "0.01235 (no-change 0.36)"
    assert NLL.shown_baseline(None) == ""


def test_only_ratios_of_perplexities_and_errors_mean_something():
    assert [m.has_ratios for m in (PERPLEXITY, RMS, NLL)] == [True, True, False]


def test_settings_of_an_earlier_version_are_perplexities():
    assert read_measure({}) == PERPLEXITY
    assert read_measure({"measure": RMS._asdict() | {"of a later version": 1}}) == RMS


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (Measure("rmse"), "kind"),
        (Measure("rms", 0.0), "scale"),
        (Measure("rms", math.inf), "scale"),
        (Measure("rms", math.nan), "scale"),
        (Measure("rms", True), "scale"),
        (Measure(baseline=""), "baseline"),
        (Measure(baseline="two\nlines"), "baseline"),
        (Measure(baseline="x" * 41), "baseline"),
    ],
)
def test_a_measure_that_cannot_be_told_is_refused(measure, name):
    with pytest.raises(ConfigError, match=f"`measure.{name}` must be"):
        check_measure(measure)
