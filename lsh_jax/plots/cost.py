"""The picture of what a search cost."""

from typing import Any

from matplotlib.figure import Figure

from lsh_jax.plots.style import DENSE, OTHER, WINNER, canvas, house_style


@house_style
def plot_budget(spent: float, dense: float, full: float, *, tuning: float = 0) -> Figure:
    """What the search cost against training every candidate to the end.

    Args:
      spent: epochs of the candidates.
      dense: epochs of the dense networks.
      full: epochs of all candidates, had each been trained to the end.
      tuning: epochs of the other trials that tuned the dense networks.

    Returns:
      A Figure, two bars in epochs.
    """
    figure, axes = canvas("Epochs trained", "epochs", "", 2.5)
    names = [f"this search:\n{spent:,.0f}", f"every candidate\nto the end: {full:,.0f}"]
    axes.barh(names, [spent, full], color=[WINNER, OTHER], height=0.55)
    left = spent
    words: list[str] = []
    for epochs, name, hatch in ((dense, "dense", "..."), (tuning, "tuning", "xxx")):
        if epochs:
            look: dict[str, Any] = {"color": "#FFFFFF", "edgecolor": DENSE, "hatch": hatch}
            bars = axes.barh(names[:1], epochs, left=left, height=0.55, **look)
            left, words = left + epochs, [*words, f"+ {epochs:,.0f} {name}"]
    if words:
        axes.bar_label(bars, ["\n".join(words)], padding=6)
    axes.set_xlim(right=max(1.02 * full, 1.4 * left))  # room for the words
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    return figure
