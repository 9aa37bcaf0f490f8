"""Replays searches on the tables of the studies: who finds the best network for the same epochs?

    python experiments/compare_search.py [--replays=200] [lstm-67 ...]

Reads results/studies; writes results/searches.json. Proposals, halving and finalists are those of
the search itself; what would be trained is looked up. A few minutes a study; nothing is trained.
"""

import argparse
import json
import pathlib

from lsh_jax.study.policies import compare
from lsh_jax.study.presets import STUDIES
from lsh_jax.study.settings import E0
from lsh_jax.study.table import STUDY, load_table

RESULTS = pathlib.Path(__file__).parent / "results"


def main() -> None:
    """Reads the flags, replays and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("studies", nargs="*", choices=[[], *STUDIES], default=[*STUDIES])
    parser.add_argument("--replays", type=int, default=200)
    args = parser.parse_args()
    path = RESULTS / "searches.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    for name in args.studies:
        table = RESULTS / "studies" / name
        if not (table / STUDY).is_file():
            continue
        found[name] = compare(
            load_table(table),
            E0,
            replays=args.replays,
            note=lambda text, name=name: print(f"{name}: {text}", flush=True),
        )
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
