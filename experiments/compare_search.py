"""Replays searches on the tables of the studies: who finds the best network for the same epochs?

    python experiments/compare_search.py [--replays=100] [--studies lstm-67 ...]
    NPROC=1 python experiments/compare_search.py --live=lstm-67 --data-dir=PTB

Proposals, halving and finalists are those of the search itself; what would be trained is looked up
in results/studies. A few minutes a study; writes results/searches.json. --live trains two real
searches in a study's setting instead, one by LS distance and one by loss, to check that replay and
reality agree: 4 minutes each on a core, in runs/live; writes results/live.json.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in studies: it changes the last bits

from lsh_jax import load_corpus
from lsh_jax.study.live import search_live
from lsh_jax.study.policies import compare, search_of
from lsh_jax.study.presets import STUDIES
from lsh_jax.study.settings import E0
from lsh_jax.study.table import STUDY, load_table

RESULTS = pathlib.Path(__file__).parent / "results"


def live(name: str, data_dir: str | None) -> None:
    """Two real searches."""
    study, table = STUDIES[name], load_table(RESULTS / "studies" / name)
    corpus = load_corpus(study.data, data_dir, study.model.vocab_size)
    config = search_of(table, E0, len(table.candidates()) // 2)
    runs = pathlib.Path("runs") / "live"
    found = []
    for metric in ("ls", "loss"):
        found.append(search_live(study, corpus, table, config, metric, runs / f"{name}-{metric}"))
        print(json.dumps(found[-1]), flush=True)
    (RESULTS / "live.json").write_text(json.dumps({name: found}, indent=1) + "\n")


def main() -> None:
    """Reads the flags, replays and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", nargs="+", choices=[*STUDIES], default=[*STUDIES])
    parser.add_argument("--replays", type=int, default=100)
    parser.add_argument("--live", choices=[*STUDIES])
    parser.add_argument("--data-dir", help="folder of ptb.train.txt, ptb.valid.txt, ptb.test.txt")
    args = parser.parse_args()
    if args.live:
        live(args.live, args.data_dir)
        return
    path = RESULTS / "searches.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    for name in args.studies:
        if not (RESULTS / "studies" / name / STUDY).is_file():
            continue
        table = load_table(RESULTS / "studies" / name)

        def note(text: str, name: str = name) -> None:
            print(f"{name}: {text}", flush=True)

        found[name] = compare(table, E0, replays=args.replays, note=note)
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
