import dataclasses
import inspect
import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from lsh_jax import plots
from lsh_jax.report.svg import to_svg
from lsh_jax.search.ledger import Record
from lsh_jax.search.measure import Measure


def history(trial, perplexities, distances=None, *, first=1, status="ok"):
    distances = distances or [None] * len(perplexities)
    return [
        Record(
            trial=trial,
            epoch=first + number,
            round=0,
            controls={},
            seed=0,
            status=status if number == len(perplexities) - 1 else "ok",
            ls_distance=distance,
            ls_std_error=None if distance is None else 0.1,
            val_perplexity=perplexity,
        )
        for number, (perplexity, distance) in enumerate(zip(perplexities, distances, strict=True))
    ]


TRIALS = plots.Trials(
    {
        0: history(0, [90.0, 80.0, 70.0], [3.0, 2.0, 1.0]),
        1: history(1, [95.0, 85.0], [4.0, 3.0]),
        2: history(2, [99.0, None], [5.0, None], status="failed"),
        3: history(3, [92.0, 82.0, 75.0], [3.5, 2.5, 1.5]),
    },
    winner=0,
    finalists=[0, 3],
    cuts=[2],
)


def lines(figure, label):
    return [line for line in figure.axes[0].lines if line.get_label() == label]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_candidates_end_where_they_were_cut_and_the_failed_one_with_a_cross():
    figure = plots.plot_measure(TRIALS, history("dense", [88.0, 78.0, 72.0]))
    cut, failed = lines(figure, "other candidates")
    assert cut.get_xdata().tolist() == [1, 2] and cut.get_marker() == "o"
    assert failed.get_xdata().tolist() == [1] and failed.get_marker() == "x"
    (winner,) = lines(figure, "winner")
    assert winner.get_ydata().tolist() == [90.0, 80.0, 70.0]
    assert legend(figure) == ["winner", "other finalists", "other candidates", "dense"]


def test_an_axis_of_an_nll_is_linear_and_its_line_is_named_as_it_is():
    dense = [dataclasses.replace(r, val_nll=r.val_perplexity) for r in history("dense", [1.0, 2.0])]
    figure = plots.plot_measure(TRIALS, dense, 700.0, Measure(baseline="no $x$"))
    axes = figure.axes[0]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "validation nll, nats per prediction"
    assert r"no \$x\$" in [line.get_label() for line in axes.lines]
    (drawn,) = lines(figure, "dense")
    assert list(drawn.get_ydata()) == [1.0, 2.0]


@pytest.mark.parametrize(("unigram", "scale"), [(100.0, "linear"), (700.0, "log")])
def test_perplexities_are_drawn_on_a_logarithmic_axis_where_they_range_widely(unigram, scale):
    figure = plots.plot_measure(TRIALS, history("dense", [88.0, 78.0]), unigram)
    assert figure.axes[0].get_yscale() == scale
    assert ("log scale" in figure.axes[0].get_ylabel()) == (scale == "log")


def test_dense_network_without_a_history_is_a_level_line():
    figure = plots.plot_measure(TRIALS, history("dense", [60.0], first=0))
    (line,) = lines(figure, "dense, as given")
    assert list(line.get_ydata()) == [60.0, 60.0]


def test_noise_bands_reach_2_8_median_standard_errors_and_the_farthest_other_seed():
    seeds = [
        history("dense-1", [88.0, 78.0, 70.0, 60.0], [0.5, 0.6, 0.7, 0.9]),
        history("dense-2", [88.0, 78.0], [0.4, 0.8]),
    ]
    figure = plots.plot_distance(TRIALS, seeds)
    chance, noise = (band.get_paths()[0].vertices for band in figure.axes[0].collections)
    assert noise[:, 1].max() == pytest.approx(0.1 * 2 * np.sqrt(2))
    assert chance[:, 1].max() == pytest.approx(0.8)
    assert chance[:, 0].max() == 3  # no farther than the candidates go
    assert "2.8 standard errors (median)" in legend(figure)
    first, _ = lines(figure, "dense, other seeds")
    assert first.get_ydata().tolist() == [0.5, 0.6, 0.7, 0.9]


def test_distances_of_one_epoch_and_no_distances_can_be_drawn():
    one = plots.Trials({0: history(0, [90.0], [3.0])}, winner=0)
    assert "2.8 standard errors (median)" in legend(plots.plot_distance(one))
    none = plots.Trials({0: history(0, [90.0])}, winner=0)
    assert plots.plot_distance(none).legends == []


def test_spectra_are_drawn_against_the_index_over_their_number():
    dense = {"dense, epoch 3": -np.arange(4.0), "dense, epoch 9": -np.arange(4.0) / 2}
    others = [-np.arange(4.0) - 1, -np.arange(4.0) - 2]
    figure = plots.plot_spectra("Layer 1", dense, others, -np.arange(4.0) - 0.1)
    assert len(figure.axes[0].lines) == 5
    (first,) = lines(figure, "dense, epoch 3")
    assert first.get_xdata().tolist() == [0.25, 0.5, 0.75, 1.0]
    assert first.get_linestyle() == "-" and lines(figure, "dense, epoch 9")[0].is_dashed()
    assert legend(figure) == ["winner", "other candidates", *dense]


def test_spectra_have_bands_of_two_standard_errors_and_the_limits_that_are_asked_for():
    dense = {"dense, epoch 3": -np.arange(4.0)}
    errors = {"winner": np.full(4, 0.25)}
    figure = plots.plot_spectra(
        "Layer 1", dense, [], -np.arange(4.0), errors=errors, limits=(-5.0, 1.0)
    )
    (band,) = figure.axes[0].collections
    vertices = band.get_paths()[0].vertices
    assert (vertices[:, 1].min(), vertices[:, 1].max()) == (-3.5, 0.5)
    assert figure.axes[0].get_ylim() == (-5.0, 1.0)
    (winner,), (reference,) = lines(figure, "winner"), lines(figure, "dense, epoch 3")
    assert winner.get_linewidth() > reference.get_linewidth()


def test_rounds_are_bars_of_survived_cut_and_failed():
    figure = plots.plot_rounds([("pool", 4, 3, 1), ("round 1", 2, 2, 0)])
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [4, 3, 1, 2, 2]
    assert [text.get_text() for text in figure.axes[0].texts] == ["4 of 8", "2 of 4"]


def test_scatter_marks_winner_and_finalists():
    points = [plots.Point(trial, 1.0 + trial, 0.1, 80.0 + trial) for trial in range(4)]
    figure = plots.plot_scatter("Perplexity", points, "validation perplexity", TRIALS)
    assert legend(figure) == ["winner", "other finalists", "other candidates"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1", "2", "3"]


def test_budget_draws_the_dense_epochs_only_where_there_are_some():
    assert len(plots.plot_budget(70, 24, 192).axes[0].patches) == 3
    assert len(plots.plot_budget(70, 0, 192).axes[0].patches) == 2


def test_budget_tells_the_tuning_from_the_dense_networks():
    axes = plots.plot_budget(70, 24, 192, tuning=10).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [70, 192, 24, 10]
    assert [bar.get_x() for bar in axes.patches][2:] == [70, 94]
    assert "+ 24 dense\n+ 10 tuning" in [text.get_text() for text in axes.texts]
    (alone,) = (t for t in plots.plot_budget(70, 24, 192).axes[0].texts if "+" in t.get_text())
    assert alone.get_text() == "+ 24 dense"


def test_figures_belong_to_no_window_and_no_global_state():
    assert plots.plot_budget(70, 24, 192).canvas.manager is None
    assert "pyplot" not in inspect.getsource(plots)


def test_svg_is_inline_repeatable_and_told_apart_from_others():
    drawn = [to_svg(plots.plot_budget(70, 24, 192), alt) for alt in ("one <", "one <", "two")]
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith('<svg role="img" aria-label="one &lt;" viewBox=')
    assert drawn[0].endswith("</svg>") and "http" not in drawn[0] and "font-family" not in drawn[0]
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in drawn]
    assert not ids[0] & ids[2]
    assert set(re.findall(r"#(p\w{8}-[^\")]+)", drawn[0])) <= ids[0]


def test_pictures_ignore_and_keep_the_readers_own_settings():
    plain = to_svg(plots.plot_budget(70, 24, 192), "one")
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30}):
        before = dict(mpl.rcParams)
        figure = plots.plot_budget(70, 24, 192)
        assert isinstance(figure, Figure)
        assert to_svg(figure, "one") == plain
        assert dict(mpl.rcParams) == before
