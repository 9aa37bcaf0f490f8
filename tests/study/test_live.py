import dataclasses

import pytest

from lsh_jax.config import SearchConfig
from lsh_jax.study.live import search_live


@pytest.mark.slow
def test_a_real_search_trains_candidates_as_the_table_has_them(
    tiny_study, tiny_table, corpus, tmp_path
):
    # The whole space, so that it meets the candidates of the table.
    space = dataclasses.replace(
        tiny_study.space,
        **{
            name: tuple({tiny_table.settings["networks"][n][name] for n in "012"})
            for name in ("init", "death", "growth", "redistribution", "death_rate")
        },
    )
    config = SearchConfig(
        max_evals=200,
        e0=2,
        ei=1,
        final_epochs=tiny_study.final_epochs,
        finalists=1,
        halving="eta",
        eta=20,
        sparsity=tiny_study.sparsity,
        space=space,
        algo="random",
    )
    found = search_live(tiny_study, corpus, tiny_table, config, "ls", tmp_path / "run")
    assert found["candidates_in_the_table"] == 3
    assert found["largest_difference"] < 1e-5  # the table has five digits
    again = search_live(tiny_study, corpus, tiny_table, config, "ls", tmp_path / "run")
    assert again == found
