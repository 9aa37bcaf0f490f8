"""Makes everything that is said of the studies from their tables.

    python experiments/analyse_study.py --into experiments/README.md README.md

Reads results/studies, results/scouting and results/searches.json (of compare_search.py); writes
results/findings.json and the pictures results/*.svg, and fills the tables between markers in the
files of --into. A minute or two; nothing is trained.
"""

import argparse
import json
import pathlib

import numpy as np

from lsh_jax.plots.study import plot_costs, plot_judges, plot_training
from lsh_jax.report.svg import to_svg
from lsh_jax.study.evidence import find, find_setting
from lsh_jax.study.findings import fill, tables
from lsh_jax.study.policies import CHANCE, FULL, LSH
from lsh_jax.study.presets import SCOUTING, STUDIES
from lsh_jax.study.scores import LEADING, LOSS, SCORES, at_points
from lsh_jax.study.settings import E0
from lsh_jax.study.table import STUDY, Table, load_table

RESULTS = pathlib.Path(__file__).parent / "results"
JUDGES = (LEADING, "paper's recipe, sorted", "loss", LOSS, "mean of the leading 30%")
COMPARED = (LSH, "loss, averaged", "death rate", CHANCE, FULL)


def read(folder: str, names: object) -> dict[str, Table]:
    """The tables that are there and have candidates."""
    paths = {name: RESULTS / folder / name for name in names}
    found = {n: load_table(path) for n, path in paths.items() if (path / STUDY).is_file()}
    return {name: table for name, table in found.items() if len(table.candidates()) >= 4}


def figure_one(table: Table, seed: int = 0) -> object:
    """The paper's Figure 1 of one seed."""
    names = table.candidates()
    own = {name: table.trajectories[name, seed] for name in (*names, "dense")}
    last = table.settings["study"]["final_epochs"]
    where = table.settings["study"]["lengths"].index(100)
    early = {
        epoch: at_points(table, epoch)[seed] for epoch in table.settings["study"]["early_epochs"]
    }
    return plot_training(
        {name: t.spectra["hidden"][last][where, 0] for name, t in own.items()},
        {n: {e: SCORES[LEADING](row[i]) for e, row in early.items()} for i, n in enumerate(names)},
        {name: np.exp(t.val_averaged) for name, t in own.items()},
        {name: own[name].final() for name in names},
        "dense",
    )


def main() -> None:
    """Reads the flags, analyses, draws and fills documents."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--into", nargs="*", type=pathlib.Path, default=[])
    args = parser.parse_args()
    studies = read("studies", STUDIES)
    searches = RESULTS / "searches.json"
    findings = {
        "studies": {name: find(table) for name, table in studies.items()},
        "scouting": {name: find_setting(t) for name, t in read("scouting", SCOUTING).items()},
        "searches": json.loads(searches.read_text()) if searches.is_file() else {},
    }
    (RESULTS / "findings.json").write_text(json.dumps(findings, indent=1) + "\n")
    curves = {
        name: {
            judge: {int(e): own["scores"][judge]["spearman"] for e, own in study["epochs"].items()}
            for judge in JUDGES
        }
        for name, study in findings["studies"].items()
    }
    alt = "Rank correlation of early scores with the final perplexity, by epoch and study"
    pictures = {"judges": (plot_judges(curves, "Spearman with the final perplexity"), alt)}
    for name, table in studies.items():
        alt = f"Spectra, LS distances and perplexities of the networks of {name}"
        pictures[f"training-{name}"] = (figure_one(table), alt)
    for name, search in findings["searches"].items():
        alt = f"Test perplexity against epochs spent, by policy, in {name}"
        pictures[f"costs-{name}"] = (plot_costs(search, COMPARED), alt)
    for name, (figure, alt) in pictures.items():
        (RESULTS / f"{name}.svg").write_text(to_svg(figure, alt) + "\n")
    found = tables(findings, E0)
    for path in args.into:
        path.write_text(fill(path.read_text(), found))
    print(json.dumps({name: len(table.trajectories) for name, table in studies.items()}))


if __name__ == "__main__":
    main()
