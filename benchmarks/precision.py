"""How far does each QR back-end stray from float64 in float32?

    python benchmarks/precision.py [--hidden-size 200 500] [--gain 1 3] [--state hidden full]

One LSTM layer with random weights times a gain, 40 steps after 20, QR at every step but for LU,
which stands between two QRs 10 steps apart. One JSON line a case: the rms error of all exponents
and of the leading 90, 60 and 30 %, in nats per step, and the spread from the first to the last.
"""

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

from lsh_jax import ModelConfig, make_language_model, rnn_lyapunov_spectrum

VOCABULARY, STEPS, BURN_IN, SEED = 500, 40, 20, 0
BACKENDS = {
    "householder": {"qr": "householder"},
    "solve": {"qr": "solve"},
    "lu": {"qr": "lu", "qr_every": 10},
}


def measure(hidden_size: int, gain: float, state: str) -> None:
    """Prints a line for each back-end."""
    config = ModelConfig(
        vocab_size=VOCABULARY, embed_size=hidden_size, hidden_size=hidden_size, num_layers=1
    )
    model = make_language_model(config)
    params = model.init(jax.random.key(SEED))
    weights = params["layers_0"]
    params["layers_0"] = weights | {name: gain * weights[name] for name in ("W", "U")}
    tokens = np.random.default_rng(SEED).integers(0, VOCABULARY, (BURN_IN + STEPS, 1))

    def exponents(dtype: type, **options: object) -> np.ndarray:
        with jax.enable_x64(dtype == np.float64):
            cast = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)
            result = rnn_lyapunov_spectrum(
                model, cast, tokens, state=state, burn_in=BURN_IN, **options
            )
            return np.asarray(result.exponents[0], np.float64)

    exact = exponents(np.float64, qr="householder")
    for name, options in BACKENDS.items():
        error = exponents(np.float32, **options) - exact
        shares = {f"rms_{share}": error[: len(error) * share // 100] for share in (100, 90, 60, 30)}
        rms = {key: float(f"{np.sqrt(np.mean(part**2)):.2g}") for key, part in shares.items()}
        facts = {"hidden_size": hidden_size, "gain": gain, "state": state, "qr": name}
        print(json.dumps(facts | rms | {"spread": round(exact[0] - exact[-1], 1)}), flush=True)


def main() -> None:
    """Reads the flags and prints the cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden-size", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--gain", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument(
        "--state", nargs="+", default=["hidden", "full"], choices=["hidden", "full"]
    )
    args = parser.parse_args()
    for state in args.state:
        for hidden_size in args.hidden_size:
            for gain in args.gain:
                measure(hidden_size, gain, state)


if __name__ == "__main__":
    main()
