"""The authors' 26 published trials, replayed; the file stays where it is, outside the project."""

import json
import os
import pathlib

import pytest

from lsh_jax.config import SpaceConfig
from lsh_jax.presets import SPACES
from lsh_jax.search.successive_halving import num_survivors, survivors
from lsh_jax.statistics import spearman


@pytest.fixture(scope="module")
def trials():
    """The published trials; LSH_JAX_PUBLISHED_TRIALS names the file, or a folder beside us."""
    default = pathlib.Path(__file__).resolve().parents[3] / "shared" / "reference"
    path = os.environ.get("LSH_JAX_PUBLISHED_TRIALS", default / "published_trials.json")
    if not pathlib.Path(path).is_file():
        pytest.skip("no published_trials.json: name it by LSH_JAX_PUBLISHED_TRIALS")
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["trials"]


def test_halving_by_the_authors_rule_goes_through_their_rounds(trials):
    # Only distances at epoch 3 are published, so that the order of the first round serves all.
    scores = {trial["trial"]: trial["ls_distance"] for trial in trials}
    sizes = [len(scores)]
    while len(scores) > 2:
        kept = survivors(scores, num_survivors(len(scores), 2, "authors"))
        scores = {trial: scores[trial] for trial in kept}
        sizes.append(len(scores))
    assert sizes == [26, 14, 8, 5, 3, 2]
    assert list(scores) == [139, 132]


@pytest.mark.parametrize(
    ("score", "deaths", "count", "expected"),
    [
        ("ls_distance", None, 26, 0.724),
        ("val_perplexity", None, 26, 0.419),
        ("ls_distance", ("magnitude", "threshold", "global_magnitude"), 18, 0.882),
        ("val_perplexity", ("magnitude", "threshold", "global_magnitude"), 18, -0.651),
        ("ls_distance", ("magnitude", "global_magnitude"), 11, 0.609),
    ],
)
def test_early_scores_rank_the_finals_as_computed_from_the_authors_files(
    trials, score, deaths, count, expected
):
    own = [trial for trial in trials if deaths is None or trial["death"].lower() in deaths]
    finals = [trial["final_test_perplexity"] for trial in own]
    assert len(own) == count
    assert spearman([trial[score] for trial in own], finals) == pytest.approx(expected, abs=5e-4)


def test_every_published_trial_lies_in_the_space_of_the_preset(trials):
    space = SpaceConfig(**SPACES["lsh-authors"])
    ours = {"set": "set_authors", "none": "none_authors"}
    for trial in trials:
        for control in ("init", "growth", "death", "redistribution", "death_rate"):
            value = trial[control]
            value = value if isinstance(value, float) else ours.get(value.lower(), value.lower())
            assert value in getattr(space, control), trial
