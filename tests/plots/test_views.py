"""Pictures of a run directory or of arrays: the same data, in the axes that were given."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from searches import cut_short, up_to

from lsh_jax import plots
from lsh_jax.config import ConfigError
from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.search.ledger import Ledger

OF_A_RUN = (
    plots.plot_spectra_over_training,
    plots.plot_distances,
    plots.plot_halving,
    plots.plot_gate_density,
)


def named(axes):
    """The lines of the legend by their label."""
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def result(run):
    return json.loads((run / "result.json").read_text())


@pytest.mark.parametrize("plot", OF_A_RUN)
def test_a_run_is_drawn_into_the_axes_that_are_given_or_into_new_ones(searched, plot):
    mine = Figure().add_subplot()
    assert plot(searched, ax=mine) is mine
    alone = plot(str(searched))
    assert alone.figure is not mine.figure and alone.figure.canvas.manager is None
    assert mine.get_title(loc="left") + mine.get_title() == alone.get_title(loc="left")
    for drawn, own in zip(alone.lines, mine.lines, strict=True):
        np.testing.assert_array_equal(drawn.get_ydata(), own.get_ydata())
    alone.figure.canvas.draw()


@pytest.mark.parametrize("plot", OF_A_RUN)
def test_an_unfinished_run_is_drawn_and_none_is_refused(searched, tmp_path, plot):
    plot(cut_short(searched, tmp_path / "run", up_to(2)))
    with pytest.raises(ConfigError, match="must be the directory of a search"):
        plot(tmp_path / "missing")


def test_a_spectrum_has_a_band_of_two_standard_errors():
    axes = plots.plot_spectrum([0.5, -1.0, -2.0], [0.1, 0.2, 0.3], label="mine")
    assert list(named(axes)) == ["mine"]
    np.testing.assert_array_equal(named(axes)["mine"].get_xdata(), [1, 2, 3])
    (band,) = axes.collections
    vertices = band.get_paths()[0].vertices
    assert vertices[:, 1].max() == pytest.approx(0.7)
    assert vertices[:, 1].min() == pytest.approx(-2.6)


def test_layers_of_a_spectrum_are_curves_and_no_band_is_drawn_without_errors():
    axes = plots.plot_spectrum(np.array([[0.5, -1.0], [0.2, -3.0]]))
    assert list(named(axes)) == ["layer 1", "layer 2"] and not axes.collections
    assert plots.plot_spectrum([1.0]).get_legend() is None


def test_a_second_spectrum_in_the_same_axes_has_a_colour_of_its_own():
    axes = plots.plot_spectrum([0.5, -1.0], label="one")
    assert plots.plot_spectrum([0.4, -1.2], label="two", ax=axes) is axes
    one, two = (line for line in axes.lines if line.get_label() in ("one", "two"))
    assert one.get_color() != two.get_color()


def test_a_result_brings_its_errors_along():
    result = lyapunov_spectrum(lambda s, _: s * (2.5 - s), np.full(2, 0.3, np.float32), num_steps=9)
    found, given = (
        plots.plot_spectrum(*arguments)
        for arguments in ((result,), (result.exponents, result.std_error))
    )
    for axes in (found, given):
        np.testing.assert_allclose(axes.lines[1].get_ydata(), result.exponents)
    (own,), (other,) = found.collections, given.collections
    np.testing.assert_array_equal(own.get_paths()[0].vertices, other.get_paths()[0].vertices)


@pytest.mark.parametrize(
    ("exponents", "error", "complaint"),
    [
        (np.zeros((1, 2, 3)), None, "`exponents` must be"),
        ([1.0, 2.0], [1.0], "`std_error` must"),
        ((np.zeros(3), np.zeros(2)), None, "got layers of unequal length"),
        ([np.nan, np.nan], None, "`exponents` must hold a finite number, got nan alone"),
    ],
)
def test_a_spectrum_of_another_shape_is_refused(exponents, error, complaint):
    with pytest.raises(ValueError, match=complaint):
        plots.plot_spectrum(exponents, error)


@pytest.mark.parametrize("trial", [None, "dense"])
def test_spectra_over_training_are_those_of_the_run(searched, trial):
    axes = plots.plot_spectra_over_training(searched, trial)
    name = result(searched)["best"]["trial"] if trial is None else trial
    with np.load(searched / "spectra.npz") as arrays:
        for epoch in range(1, 6):
            drawn = named(axes)[f"epoch {epoch}"].get_ydata()
            np.testing.assert_array_equal(drawn, np.atleast_2d(arrays[f"{name}/{epoch}"])[0])
    assert len(axes.get_legend().get_texts()) == 4  # five epochs, of which some are named


def test_spectra_over_training_can_be_arrays_and_need_the_layer_that_is_asked_for():
    spectra = {9: [[0.0, -1.0], [0.1, -3.0]], 1: [[0.0, -2.0], [0.1, -4.0]]}
    axes = plots.plot_spectra_over_training(spectra, layer=1)
    assert list(named(axes)) == ["epoch 1", "epoch 9"]
    assert named(axes)["epoch 9"].get_ydata().tolist() == [0.1, -3.0]
    for wrong in (2, -1):
        with pytest.raises(ConfigError, match=f"`layer` must be from 0 to below 2.*got {wrong}"):
            plots.plot_spectra_over_training(spectra, layer=wrong)
    with pytest.raises(ConfigError, match="`layer` must"):
        plots.plot_spectra_over_training({})


def test_distances_are_those_of_the_ledger(searched):
    axes = plots.plot_distances(searched)
    history = Ledger(searched / "trials.jsonl").history(result(searched)["best"]["trial"])
    expected = [record.ls_distance for record in history]
    np.testing.assert_array_equal(named(axes)["winner"].get_ydata(), expected)


def test_halving_counts_who_survived_was_cut_and_failed(searched):
    rounds = result(searched)["rounds"]
    axes = plots.plot_halving(searched)
    labels = [text.get_text() for text in axes.get_yticklabels()]
    named = [("pool" if n == 0 else f"round {n}", r["epochs"]) for n, r in enumerate(rounds)]
    expected = [f"{name}, to epoch {epochs}" for name, epochs in [*named, ("finals", 5)]]
    assert labels == expected
    widths = [
        [bar.get_width() for bar in axes.patches if round(bar.get_y() + 0.31) == place]
        for place in range(len(rounds))
    ]
    for entry, own in zip(rounds, widths, strict=True):
        kept, failed = len(entry["survivors"]), len(entry["failed"])
        cut = len(entry["entered"]) - kept - failed
        assert own == [count for count in (kept, cut, failed) if count]
    assert [bar.get_width() for bar in plots.plot_halving([("pool", 2, 1, 0)]).patches] == [2, 1]


def test_the_density_of_gates_is_that_of_a_leaf(searched):
    axes = plots.plot_gate_density(searched)
    assert set(named(axes)) == {"i", "o"}
    assert named(axes)["o"].get_ydata().tolist() == [0.5 / epoch for epoch in range(1, 6)]
    given = plots.plot_gate_density({"i": [0.5, 0.25]})
    assert named(given)["i"].get_xdata().tolist() == [1, 2]
    with pytest.raises(ConfigError, match=r"`leaf` must have gates.*: layers_0/U; got 'decoder'"):
        plots.plot_gate_density(searched, leaf="decoder")


def test_a_trial_that_is_not_on_record_is_refused(searched):
    with pytest.raises(ConfigError, match=r"`trial` must be on record.*got 99"):
        plots.plot_gate_density(searched, 99)
