"""The authors' 26 published trials, through our halving and our statistics.

    python experiments/published_trials.py TRIALS.json

TRIALS.json holds the trials of LE_tpe_trials_num_40_ind_100.pickle and the finals of plotter.py in
FATE4869/hyperpruning, and is not part of this repository: {"trials": [{"trial", "death",
"death_rate", "ls_distance", "val_perplexity", "final_test_perplexity", ...}]}. Prints who is left
in every round by the authors' rule, and how well the scores at epoch 3 order the finals, with 90 %
bootstrap intervals over trials; writes results/published.json, which holds no trial's own numbers.
One seed each, and the scores of epoch 3 stand for those of later rounds, which were not published.
"""

import argparse
import json
import pathlib

from lsh_jax.study.published import judge_parts, rounds


def main() -> None:
    """Reads the trials, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trials", type=pathlib.Path)
    args = parser.parse_args()
    trials = json.loads(args.trials.read_text(encoding="utf-8"))["trials"]
    sizes = [len(own) for own in rounds(trials, "ls_distance")]
    found = {
        "entering": sizes,
        "last": {s: rounds(trials, s)[-1] for s in ("ls_distance", "val_perplexity")},
        "parts": judge_parts(trials),
    }
    text = json.dumps(found, indent=1)
    print(text)
    (pathlib.Path(__file__).parent / "results" / "published.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
