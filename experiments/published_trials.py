"""The authors' 26 published trials, through our halving and our statistics.

    python experiments/published_trials.py TRIALS.json [--out=FILE]

TRIALS.json holds the trials of LE_tpe_trials_num_40_ind_100.pickle and the finals of plotter.py in
FATE4869/hyperpruning, and is not part of this repository: {"trials": [{"trial", "death",
"death_rate", "ls_distance", "val_perplexity", "final_test_perplexity", ...}]}. Prints one JSON
object: who is left in every round by the authors' rule, and how well the score at epoch 3 orders
the finals, over all trials and over parts of them, with 90 % bootstrap intervals over trials. One
seed each, and the scores of epoch 3 stand for those of later rounds, which were not published.
"""

import argparse
import json
import pathlib

import numpy as np

from lsh_jax.search.successive_halving import num_survivors, survivors
from lsh_jax.study.analysis import chance_regret, correlation, draw, estimated, regret

PARTS = {
    "all": ("magnitude", "set", "threshold", "global_magnitude"),
    "without SET, whose death removes the wrong weights": (
        "magnitude",
        "threshold",
        "global_magnitude",
    ),
    "magnitude and global magnitude": ("magnitude", "global_magnitude"),
}


def rounds(trials: list[dict], score: str) -> list[list[int]]:
    """The trials of every round, the pool first."""
    scores = {trial["trial"]: float(trial[score]) for trial in trials}
    found = [sorted(scores, key=scores.__getitem__)]
    while len(scores) > 2:
        kept = survivors(scores, num_survivors(len(scores), 2, "authors"))
        scores = {trial: scores[trial] for trial in kept}
        found.append(kept)
    return found


def judge(trials: list[dict]) -> dict:
    """Correlation and regret of both scores and of the death rate."""

    def column(name: str) -> np.ndarray:
        return np.array([[float(trial[name]) for trial in trials]])

    final = column("final_test_perplexity")
    draws = draw(len(trials), 1)
    scores = {
        "LS distance": column("ls_distance"),
        "validation perplexity": column("val_perplexity"),
        "death rate": -column("death_rate"),
    }
    rho = {name: correlation(values, final, draws) for name, values in scores.items()}
    found = {
        name: {
            "spearman": list(estimated(rho[name])),
            "less_loss": list(estimated(rho[name] - rho["validation perplexity"])),
            "regret": {str(n): list(estimated(regret(values, final, n, draws))) for n in (1, 3)},
        }
        for name, values in scores.items()
    }
    chance = {str(n): list(estimated(chance_regret(final, n, draws))) for n in (1, 3)}
    return {"trials": len(trials), "scores": found, "chance_regret": chance}


def main() -> None:
    """Reads the trials and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trials", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="write the JSON object here too")
    args = parser.parse_args()
    trials = json.loads(args.trials.read_text())["trials"]
    found = {
        "rounds": {score: rounds(trials, score) for score in ("ls_distance", "val_perplexity")},
        "parts": {
            name: judge([t for t in trials if t["death"].lower() in deaths])
            for name, deaths in PARTS.items()
        },
    }
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
