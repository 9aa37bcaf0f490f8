"""Writes text with a saved model.

    python experiments/generate.py RUN
    python experiments/generate.py RUN --prompt="the state of the union" --samples=3
    python experiments/generate.py RUN/model --temperature=0.7 --top-k=40 --length=100 --seed=1

Reads a model that a search or `train_dense.py` saved; prints words of its vocabulary, a line for
each <eos>. Words of the prompt that the model does not know are named. Some seconds.
"""

import sys

from lsh_jax.cli.generate import main

if __name__ == "__main__":
    sys.exit(main())
