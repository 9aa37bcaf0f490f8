"""The pictures of Lyapunov runs hold what they were given."""

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from lsh_jax.lyapunov import lyapunov_spectrum
from lsh_jax.plots.lyapunov import draw_convergence, draw_errors, draw_spectra, plot_convergence


def result(**options):
    rates = 0.1 * np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rates += np.log([1.5, 0.5, 0.2]).astype(np.float32)
    options = {"tangent": lambda s, x: (s, lambda Q: jnp.exp(x)[:, None] * Q)} | options
    return lyapunov_spectrum(None, jnp.zeros(3), rates, **options)


def named(axes):
    """The lines of the legend."""
    return [line for line in axes.lines if not line.get_label().startswith("_")]


def test_the_convergence_ends_at_the_exponents_within_their_band():
    run = result(qr="lu", qr_every=7)
    figure = plot_convergence(run)
    (axes,) = figure.axes
    assert [line.get_label() for line in named(axes)] == [f"exponent {k}" for k in (1, 2, 3)]
    for line, exponent in zip(named(axes), run.exponents, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [7, 14, 21, 28, 35, 42, 49, 50])
        np.testing.assert_allclose(line.get_ydata()[-1], exponent, rtol=1e-5)
    assert len(axes.collections) == 3  # the bands
    assert axes.get_xscale() == "log"
    assert "nats" in axes.get_ylabel()


def test_chosen_exponents_are_drawn_and_about_their_final_values():
    axes = Figure().subplots()
    draw_convergence(axes, result(), which=(1,), relative=True)
    assert [line.get_label() for line in named(axes)] == ["exponent 2"]
    assert abs(named(axes)[0].get_ydata()[-1]) < 1e-6


def test_spectra_and_errors_are_drawn_by_name():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    run = result()
    draw_spectra(left, {"full": run, "hidden": run})
    assert [line.get_label() for line in named(left)] == ["full", "hidden"]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), run.exponents)
    draw_errors(right, [10, 40], {"full": ([0.2, 0.1], [0.21, 0.09])})
    labels = [line.get_label() for line in named(right)]
    assert labels == ["full: between texts", "full: reported", "1 / sqrt(T)"]
    np.testing.assert_allclose(right.lines[2].get_ydata(), [0.2, 0.1])
