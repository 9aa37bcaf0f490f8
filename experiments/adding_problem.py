"""A task of one's own: an LSTM learns to add two numbers that lie far apart, and is pruned.

    python experiments/adding_problem.py                        # 1 to 3 minutes on 2 cores
    python experiments/adding_problem.py --metric=loss --seed=1

The adding problem (Hochreiter & Schmidhuber, 1997): of 50 numbers two are marked, and the answer
at the end is their sum. Who always answers 1 has a mean square error of 1/6, an rms of 0.408.
Writes a run directory, runs/<time>-adding_problem-<seed>, with a report. `--help` lists the flags.
"""

import functools
import sys

from lsh_jax.cli.own_task import OwnTask, run_own_task

# isort: split
import jax.numpy as jnp

import lsh_jax
from lsh_jax.sequence_data import adding_problem
from lsh_jax.sequence_models import gaussian_nll, make_sequence_model

LENGTH, SCALE = 50, 0.1  # steps; an error that counts as small
MODEL = make_sequence_model("lstm", input_size=2, hidden_size=32, output_size=1)


def init(key):
    """Weights of a network that remembers at first: forget gates start open (Gers et al., 2000)."""
    params = MODEL.init(key)
    i, f, g, o = jnp.split(params["layer"]["b"], 4)
    params["layer"]["b"] = jnp.concatenate([i, f + 1, g, o])
    return params


def loss(params, batch, key):
    """The answer is what is read after the last step."""
    inputs, answers = batch
    outputs = MODEL.apply(params, inputs.swapaxes(0, 1))  # [T, B, 1]
    return gaussian_nll(outputs[-1, :, 0] - answers, SCALE)


def make_task(seed):
    """5000 sequences to learn from, 1000 to validate and 1000 to test."""
    inputs, answers = adding_problem(7000, LENGTH)
    driving = inputs[5000:5008].swapaxes(0, 1)

    def spectrum(params):  # of (h, c), whose slow modes hold what is remembered
        step = functools.partial(MODEL.step, params)
        return lsh_jax.driven_spectrum(
            step, MODEL.init_carry(), driving, num_exponents=16, burn_in=10
        )

    def split(first, last, segments=0):
        return lsh_jax.cut_batches((inputs[first:last], answers[first:last]), 50, segments)

    def always_one(first, last):
        total, count = gaussian_nll(1 - answers[first:last], SCALE)
        return float(total / count)

    return lsh_jax.make_sequence_task(
        "adding problem",
        lsh_jax.SequenceNetwork(init, loss, spectrum),
        lsh_jax.SequenceBatches(split(0, 5000, segments=2), split(5000, 6000), split(6000, 7000)),
        learning_rate=0.01,
        clip=1.0,
        gates=MODEL.gates,
        baseline_nll={"validation": always_one(5000, 6000), "test": always_one(6000, 7000)},
        measure=lsh_jax.Measure("rms", SCALE, "always-1"),
        seed=seed,
    )


if __name__ == "__main__":
    search = lsh_jax.SearchConfig(e0=6, ei=2, max_evals=8, final_epochs=30)
    sys.exit(run_own_task(OwnTask("adding_problem", make_task, search)))
