import json

import pytest

from lsh_jax.study.evidence import find
from lsh_jax.study.findings import fill, tables
from lsh_jax.study.pictures import draw_all
from lsh_jax.study.policies import compare


@pytest.fixture(scope="module")
def findings(tiny_table):
    """Of the tiny study, whose early epochs are 2 and 3."""
    found = {
        "studies": {"tiny": find(tiny_table)},
        "searches": {},
        "scouting": {},
        "live": {},
        "published": {},
    }
    return json.loads(json.dumps(found, allow_nan=False))


def test_a_document_keeps_its_words_and_gets_new_tables():
    text = "a\n<!-- table: x -->old<!-- end -->\nb\n<!-- table: y -->\nkept\n<!-- end -->\n"
    filled = fill(text, {"x": "| new |"})
    assert filled.startswith("a\n<!-- table: x -->\n\n| new |\n\n<!-- end -->\nb\n")
    assert filled.endswith("<!-- table: y -->\nkept\n<!-- end -->\n")
    assert fill(filled, {"x": "| new |"}) == filled


def test_the_findings_of_a_trained_study_make_every_table(findings):
    found = tables(findings, 3)
    assert {"settings", "claims", "claims-learners", "answers", "noise", "scores-tiny"} <= set(
        found
    )
    assert "baselines-tiny" in found
    for text in found.values():
        widths = {line.count("|") for line in text.splitlines()}
        assert len(widths) == 1, text


def test_a_row_says_what_the_findings_hold(findings):
    own = findings["studies"]["tiny"]["all"]["epochs"]["3"]["scores"]["hidden 100%"]["spearman"]
    row = next(
        line
        for line in tables(findings, 3)["scores-tiny"].splitlines()
        if "| hidden 100% |" in line
    )
    assert f"| {own[0]:+.2f} [{own[1]:+.2f}, {own[2]:+.2f}] |" in row


def test_the_setting_counts_by_hand(findings, tiny_table):
    setting = findings["studies"]["tiny"]["setting"]
    assert (setting["candidates"], setting["seeds"]) == (3, 2)
    finals = [tiny_table.trajectories[str(n), s].final() for n in range(3) for s in range(2)]
    unigram = tiny_table.settings["text"]["unigram_perplexity"]
    assert setting["never_learned"] == sum(final >= unigram for final in finals)
    dense = [tiny_table.trajectories["dense", s].final_test() for s in range(2)]
    assert setting["dense"]["test"] == pytest.approx(dense, abs=1e-3)


def test_pictures_are_drawn_of_every_study_and_search(findings, tiny_table, make_table):
    import numpy as np

    finals = np.tile(np.linspace(5, 9, 12), (2, 1))
    table = make_table(finals, finals)
    table.settings["study"]["early_epochs"] = [2, 3, 4]
    searches = {"other": compare(table, 2, replays=2)}
    found = draw_all({"tiny": tiny_table}, findings | {"searches": searches})
    assert set(found) == {"judges", "regret", "training-tiny", "costs-other"}
    for figure, alt in found.values():
        assert figure.axes and alt
