"""Hyperpruning: searches for the pruned recurrent network to train, judged by LS distance.

    python experiments/hypersearch.py                                     # minutes, any laptop
    python experiments/hypersearch.py --preset=small                      # 40 candidates, minutes
    python experiments/hypersearch.py --preset=paper-lstm --data-dir=PTB --accelerator=gpu

Reads the corpus that --data names; writes a run directory, runs/<time>-<preset>-<seed>, with a
report. `--help` lists every setting, `--dry-run` says what a search would cost; measured costs
are in experiments/README.md.
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("lsh_jax")
