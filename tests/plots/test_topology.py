import math

import pytest

from lsh_jax import plots
from lsh_jax.search.ledger import Record


def history(trial, overlaps, status="ok"):
    return [
        Record(
            trial=trial,
            epoch=epoch,
            round=0,
            controls={},
            seed=0,
            status=status,
            topology=None if overlap is None else {"overlap": overlap, "explored": 1 - overlap},
        )
        for epoch, overlap in enumerate(overlaps, start=1)
    ]


TRIALS = plots.Trials({3: history(3, [0.5, 0.75]), 4: history(4, [0.25, None])}, 3, [3, 4], [1])
GATES = {"i": [0.3, 0.4], "o": [0.5, 0.2]}


def line(axes, label):
    (found,) = (line for line in axes.lines if line.get_label() == label)
    return found


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_leaf_has_a_panel_and_a_gate_looks_the_same_in_all():
    panels = {"decoder/W": {"leaf without gates": [0.3, 0.3]}, "layers_0/U": GATES}
    panels["layers_0/W"] = {"o": [0.1, math.nan], "i": [0.2, 0.2]}
    figure = plots.plot_density([1, 2], panels, [0.33, 0.33])
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == list(panels)
    assert list(line(shown[1], "i").get_ydata()) == GATES["i"]
    for label in ("i", "o"):
        first, second = line(shown[1], label), line(shown[2], label)
        assert first.get_color() == second.get_color()
    looks = {(line(shown[1], g).get_color(), line(shown[1], g)._linestyle) for g in GATES}
    assert len(looks) == 2
    assert all(list(line(axes, "whole network").get_ydata()) == [0.33, 0.33] for axes in shown)
    assert legend(figure) == ["leaf without gates", "i", "o", "whole network"]
    low, high = shown[0].get_ylim()
    assert low < 0.1 and 0.5 < high < 0.6


def test_densities_that_hardly_move_are_drawn_flat():
    figure = plots.plot_density([1, 2], {"a": {"i": [0.33, 0.331]}}, [0.33, 0.33])
    low, high = figure.axes[0].get_ylim()
    assert high - low == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("plot", "winner", "other"),
    [(plots.plot_overlap, [0.5, 0.75], [0.25]), (plots.plot_explored, [0.5, 0.25], [0.75])],
)
def test_shares_of_the_finalists_are_drawn_from_0_to_1(plot, winner, other):
    figure = plot(TRIALS)
    (axes,) = figure.axes
    assert list(line(axes, "winner").get_ydata()) == winner
    assert list(line(axes, "other finalists").get_ydata()) == other
    assert axes.get_ylim() == (0, 1.02)
    assert legend(figure) == ["winner", "other finalists"]
