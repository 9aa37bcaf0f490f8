"""A task of one's own: a GRU forecasts the Lorenz flow, pruned by its Lyapunov spectrum.

    python experiments/forecast_lorenz.py                       # 1 to 3 minutes on 2 cores
    python experiments/forecast_lorenz.py --executor=process --sparsity=0.8

The network reads the state every 0.05 units of time and forecasts the next. The report shows the
exponents of networks fed with their own forecasts; the flow's are 0.906, 0 and -14.57 (Sprott).
"""

import functools
import sys

from lsh_jax.cli.own_task import OwnTask, describe_exponents, run_own_task

# isort: split
import jax
import numpy as np

import lsh_jax
from lsh_jax.plots.exponents import plot_exponents
from lsh_jax.report import add_figure
from lsh_jax.sequence_data import lorenz63, sample_flow
from lsh_jax.sequence_models import gaussian_nll, make_sequence_model

DT, SCALE = 0.05, 0.02  # time between readings; an error that counts as small
MODEL = make_sequence_model("gru", input_size=3, hidden_size=48, output_size=3)


def make_task(seed):
    """Forecasts by one step, and spectra along true readings."""
    starts = np.random.default_rng(0).normal(loc=[[0], [0], [24]], size=(3, 1728))
    x = sample_flow(lorenz63, starts, dt=DT, num_steps=65, burn_in=200)
    x = ((x - [0, 0, 23.5]) / [7.9, 9.0, 8.6]).astype(np.float32)  # [count, T, 3], of spread 1
    held_out, driving = {"validation": x[1600:1664], "test": x[1664:]}, x[1600:1608].swapaxes(0, 1)

    def loss(params, batch, key):  # the output is the change until the next reading
        past, future = batch.swapaxes(0, 1)[:-1], batch.swapaxes(0, 1)[1:]
        return gaussian_nll(past + MODEL.apply(params, past) - future, SCALE)

    def spectrum(params):
        parts = functools.partial(MODEL.step, params), MODEL.init_carry(), driving
        return lsh_jax.driven_spectrum(*parts, num_exponents=16, burn_in=20)

    batches = (lsh_jax.cut_batches(y, 8) for y in held_out.values())
    unchanged = {name: gaussian_nll(y[:, 1:] - y[:, :-1], SCALE) for name, y in held_out.items()}
    return lsh_jax.make_sequence_task(
        "lorenz",
        lsh_jax.SequenceNetwork(MODEL.init, loss, spectrum),
        lsh_jax.SequenceBatches(lsh_jax.cut_batches(x[:1600], 32, segments=2), *batches),
        learning_rate=5e-3,
        clip=30.0,
        gates=MODEL.gates,
        baseline_nll={name: float(total / count) for name, (total, count) in unchanged.items()},
        measure=lsh_jax.Measure("rms", SCALE, "no-change"),
        seed=seed,
    )


def finish(found, out):
    """Lets the networks run on their own forecasts, prints and draws their exponents."""
    options = {"num_steps": 8000, "burn_in": 1000, "num_exponents": 8, "dt": DT}

    @jax.jit
    def alone(params):
        parts = functools.partial(MODEL.step, params), lambda h, x: x + MODEL.read(params, h)
        first = MODEL.init_carry(), np.full((1, 3), 0.1, np.float32)
        return lsh_jax.closed_loop_spectrum(*parts, *first, **options)

    run = {"num_steps": 40_000, "burn_in": 2000, "dt": 0.01}
    spectra = {"flow": lsh_jax.flow_spectrum(lorenz63, (1.0, 1.0, 20.0), **run)}
    spectra |= {"dense": alone(found.dense.params), "winner": alone(found.best.params)}
    print(told := describe_exponents(spectra))
    figure, title = plot_exponents("", spectra), "The flow, and networks left alone"
    add_figure(out, "exponents", figure, title, "Exponents of each by index", told)


if __name__ == "__main__":
    search = lsh_jax.SearchConfig(e0=4, ei=2, max_evals=8, final_epochs=40)
    sys.exit(run_own_task(OwnTask("forecast_lorenz", make_task, search, finish)))
