"""Trains the networks of the studies to the end: the tables that judges are compared on.

    for part in 1/2 2/2; do
      NPROC=1 python experiments/study.py lstm-67 --data-dir=PTB --part=$part &
    done

Two processes of one thread each use two cores best. Writes OUT/<study>/ (experiments/results/
studies if not given): study.json, lines.jsonl, one line a network, seed and epoch, and spectra/.
What is there is not trained again. The studies: lsh_jax/study/presets.py; cost and results:
experiments/README.md. --dry-run says what is missing.
"""

import pathlib
import sys

from lsh_jax.cli.study import train_studies
from lsh_jax.study.presets import STUDIES

if __name__ == "__main__":
    out = pathlib.Path(__file__).parent / "results" / "studies"
    sys.exit(train_studies(STUDIES, out, "study.py"))
