"""Looks for a setting in which judges can be compared at all, before anything is studied there.

    NPROC=1 python experiments/scout.py --data-dir=PTB

Trains the dense network and four candidates of every setting of SCOUTING (lsh_jax/study/presets.py)
with two seeds, 3 to 6 minutes a setting on one core, into experiments/results/scouting, and prints
for each: how far the finals of candidates lie apart against those of seeds, whether a pruned
network beats the dense one, and how many candidates are past the unigram perplexity when they are
first scored. Flags as of study.py.
"""

import json
import pathlib
import sys

from lsh_jax.cli.study import train_studies
from lsh_jax.study.evidence import find_setting
from lsh_jax.study.presets import SCOUTING
from lsh_jax.study.table import STUDY, load_table

if __name__ == "__main__":
    out = pathlib.Path(__file__).parent / "results" / "scouting"
    status = train_studies(SCOUTING, out, "scout.py")
    for name in SCOUTING if status == 0 else ():
        if (out / name / STUDY).is_file():
            print(name, json.dumps(find_setting(load_table(out / name)), indent=1))
    sys.exit(status)
