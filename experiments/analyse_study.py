"""Makes everything that is said of the studies from their tables.

    python experiments/analyse_study.py --into experiments/README.md README.md

Reads results/studies, results/scouting, results/searches.json (of compare_search.py) and
results/published.json (of published_trials.py); writes results/findings.json and the pictures
results/*.svg, and fills the tables between markers in the files of --into. A minute or two; nothing
is trained.
"""

import argparse
import json
import pathlib

from lsh_jax.report.svg import to_svg
from lsh_jax.study.evidence import find, find_setting
from lsh_jax.study.findings import fill, tables
from lsh_jax.study.pictures import draw_all
from lsh_jax.study.presets import SCOUTING, STUDIES
from lsh_jax.study.settings import E0
from lsh_jax.study.table import STUDY, Table, load_table

RESULTS = pathlib.Path(__file__).parent / "results"
FEWEST = 4  # candidates of a table that something is said of


def read(folder: str, names: object) -> dict[str, Table]:
    """The tables that are there and have candidates."""
    paths = {name: RESULTS / folder / name for name in names}
    found = {n: load_table(path) for n, path in paths.items() if (path / STUDY).is_file()}
    return {name: table for name, table in found.items() if len(table.candidates()) >= FEWEST}


def read_json(name: str) -> dict:
    """The content of a file of results, if it is there."""
    path = RESULTS / name
    return json.loads(path.read_text()) if path.is_file() else {}


def main() -> None:
    """Reads the flags, analyses, draws and fills documents."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--into", nargs="*", type=pathlib.Path, default=[])
    args = parser.parse_args()
    studies = read("studies", STUDIES)
    findings = {
        "studies": {name: find(table) for name, table in studies.items()},
        "scouting": {name: find_setting(t) for name, t in read("scouting", SCOUTING).items()},
        "searches": read_json("searches.json"),
        "live": read_json("live.json"),
        "published": read_json("published.json"),
    }
    (RESULTS / "findings.json").write_text(json.dumps(findings) + "\n")
    for name, (figure, alt) in draw_all(studies, findings).items():
        (RESULTS / f"{name}.svg").write_text(to_svg(figure, alt) + "\n")
    for path in args.into:
        path.write_text(fill(path.read_text(), tables(findings, E0)))
    print(json.dumps({name: len(table.trajectories) for name, table in studies.items()}))


if __name__ == "__main__":
    main()
