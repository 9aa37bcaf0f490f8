import numpy as np
import pytest

from lsh_jax.study.analysis import Estimate, draw
from lsh_jax.study.claims import CLAIMS, answer, judge
from lsh_jax.study.scores import SCORES, Scored


@pytest.mark.parametrize(
    ("effect", "negative", "expected"),
    [
        ((0.3, 0.1, 0.5), False, "supported"),
        ((0.3, -0.1, 0.5), False, "undecided"),
        ((-0.3, -0.5, -0.1), False, "contradicted"),
        ((-0.3, -0.5, -0.1), True, "supported"),
        ((0.3, 0.1, 0.5), True, "contradicted"),
        ((np.nan, np.nan, np.nan), False, "undecided"),
    ],
)
def test_the_verdict_is_where_the_interval_lies(effect, negative, expected):
    assert answer(Estimate(*effect), negative=negative) == expected


def test_a_perfect_distance_beats_a_loss_that_is_noise():
    own = np.random.default_rng(0)
    final = own.normal(size=(2, 30))
    scores = {label: own.normal(size=(2, 30)) for label in SCORES}
    scores |= {claim.better: final for claim in CLAIMS[:1]}
    for claim in CLAIMS:
        scores.setdefault(claim.better, own.normal(size=(2, 30)))
    scored = Scored([str(n) for n in range(30)], scores, final, final)
    found = judge(scored, draw(30, 2, resamples=200), ["random", "gradient"] * 15)
    assert [verdict.text for verdict in found] == [claim.text for claim in CLAIMS]
    assert found[0].answer == "supported"
    assert found[0].effect.value == pytest.approx(1.0, abs=0.4)
    leading_against_all = next(v for v in found if v.text.startswith("leading exponents say more"))
    assert leading_against_all.answer == "contradicted"
