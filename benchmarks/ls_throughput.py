"""How long does the Lyapunov spectrum of an LSTM language model take?

    python benchmarks/ls_throughput.py [--hidden-size 100 200] [--share 0.3 1.0] [--state hidden]

Prints one JSON line per case: seconds to compile, then median and least seconds of `--repeats`
runs after a warm-up, and what follows from them. Random weights: the cost does not depend on them.
"""

import argparse
import json
import statistics
import time

import jax

from lsh_jax import ModelConfig, make_language_model, rnn_lyapunov_spectrum
from lsh_jax.distance import num_leading


def measure(hidden_size: int, share: float, state: str, args: argparse.Namespace) -> dict:
    """Times one case."""
    config = ModelConfig(
        vocab_size=1000,
        embed_size=hidden_size,
        hidden_size=hidden_size,
        num_layers=args.num_layers,
    )
    model = make_language_model(config)
    params = model.init(jax.random.key(0))
    shape = (args.length, args.batch)
    tokens = jax.random.randint(jax.random.key(1), shape, 0, config.vocab_size)
    size = hidden_size * (2 if state == "full" else 1)
    num_exponents = num_leading(share, size)

    def run() -> float:
        started = time.perf_counter()
        result = rnn_lyapunov_spectrum(
            model, params, tokens, state=state, num_exponents=num_exponents, burn_in=0
        )
        jax.block_until_ready(result.exponents)
        return time.perf_counter() - started

    first = run()
    seconds = [run() for _ in range(args.repeats)]
    steps = args.length * args.batch * args.num_layers  # QR steps
    return {
        "hidden_size": hidden_size,
        "num_layers": args.num_layers,
        "state": state,
        "num_exponents": num_exponents,
        "length": args.length,
        "batch": args.batch,
        "first_s": round(first, 3),
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "us_per_qr_step": round(statistics.median(seconds) / steps * 1e6, 1),
        "exponents_per_s": round(num_exponents * args.num_layers / statistics.median(seconds)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }


def main() -> None:
    """Reads the flags and prints the cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden-size", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--share", type=float, nargs="+", default=[0.3, 1.0])
    parser.add_argument("--state", nargs="+", default=["hidden"], choices=["hidden", "full"])
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--length", type=int, default=140)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    for state in args.state:
        for hidden_size in args.hidden_size:
            for share in args.share:
                print(json.dumps(measure(hidden_size, share, state, args)), flush=True)


if __name__ == "__main__":
    main()
