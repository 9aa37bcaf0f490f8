"""What a search spent: of candidates, of dense networks, and of the trials that tuned them."""

from collections.abc import Iterator

from lsh_jax import plots
from lsh_jax.report.formatting import duration, percent, plural, setting
from lsh_jax.report.page import Facts, Picture, Pictures, Section, Text
from lsh_jax.report.run import Run, given
from lsh_jax.report.svg import to_svg


def tuning_text(run: Run) -> Iterator[str]:
    """That the dense network had the candidates' choice of hyperparameters, where they had one."""
    dense, budget = run.result["dense"], run.result["budget"]
    if not dense.get("tuning_trials"):
        return
    chosen = ", ".join(
        f"{name.replace('_', ' ')} {setting(value)}"
        for name, value in dense.get("hyper", {}).items()
    )
    yield (
        "Hyperparameters of training were searched as well. So the dense network was tuned first, "
        f"over {plural(dense['tuning_trials'], 'trial')} in rounds as the candidates', judged by "
        f"validation nll. Of the finalists, trained to epoch {dense['epochs']}, the one with the "
        f"lowest validation nll at its best epoch is the dense network; it chose {chosen}. The "
        f"other trials' {budget.get('epochs_tuning', 0):,.0f} epochs count below."
    )


def cost_section(run: Run) -> Section:
    """What was spent, against training every candidate to the end."""
    budget, result = run.result["budget"], run.result
    spent, dense, full = (
        budget[name] for name in ("epochs_spent", "epochs_dense", "epochs_full_search")
    )
    tuning = budget.get("epochs_tuning", 0)
    facts = [
        ("epochs of candidates", f"{spent:,.0f}"),
        ("epochs of dense networks", f"{dense:,.0f}"),
        *([("epochs of other trials of their tuning", f"{tuning:,.0f}")] if tuning else []),
        ("epochs of a full search", f"{full:,.0f}"),
        ("wall time", duration(result.get("wall_s"))),
        ("programs compiled", setting(result.get("compilations"))),
    ]
    alt = f"Bars: {spent:,.0f} epochs spent on candidates, {full:,.0f} for training all to the end"
    figure = plots.plot_budget(spent, dense, full, tuning=tuning)
    caption = "The shorter the upper bar, the more the halving saved."
    pictures = Pictures([Picture(to_svg(figure, alt), alt)], caption)
    return Section("What it cost", [Text(_spent(run)), Facts(facts), pictures])


def _spent(run: Run) -> str:
    budget = run.result["budget"]
    dense, tuning = budget["epochs_dense"], budget.get("epochs_tuning", 0)
    text = (
        f"The candidates were trained for {budget['epochs_spent']:,.0f} epochs; training each of "
        f"them to the end would take {budget['epochs_full_search']:,.0f}: "
        f"{percent(budget['ratio'])} of that was spent"
    )
    if given(run):
        return f"{text}. The dense network was given, not trained here; its epochs are not counted."
    tuned = f" and the {tuning:,.0f} of the other trials of their tuning" if tuning else ""
    text += (
        f", or {percent(budget['ratio_with_dense'])} with the {dense:,.0f} epochs of the dense "
        f"networks{tuned}. "
    )
    if tuning:
        return text + (
            "Tuning is the price of a fair comparison where hyperparameters are searched, whatever "
            "the candidates are judged by."
        )
    return text + (
        "A search by the validation loss needs no dense network to judge candidates, only to "
        "compare the winner with."
    )
