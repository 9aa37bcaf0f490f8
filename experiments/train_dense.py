"""Trains the dense network alone: the reference of later searches, or a baseline.

    python experiments/train_dense.py                                      # a minute, any laptop
    python experiments/train_dense.py --preset=small-lstm --data=ptb --data-dir=PTB
    python experiments/train_dense.py --preset=paper-lstm --data-dir=PTB --accelerator=gpu

Reads the corpus that --data names; writes a run directory, runs/<time>-dense-<preset>-<seed>, which
`hypersearch.py --dense=RUN` takes. `--help` lists every setting, `--dry-run` says what it will
cost, and `--resume` goes on after Ctrl-C.
"""

import sys

from lsh_jax.cli.train_dense import main

if __name__ == "__main__":
    sys.exit(main())
