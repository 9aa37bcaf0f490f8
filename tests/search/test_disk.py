"""What a search leaves on disk while it runs, against what its plan says."""

import pytest

from lsh_jax.config import SpaceConfig
from lsh_jax.estimate import num_states
from lsh_jax.search.hyperpruning import hyperprune


@pytest.mark.parametrize("keep_all", [False, True])
@pytest.mark.parametrize("rates", [(), (1.0, 2.0, 8.0)])
def test_the_plan_bounds_the_checkpoints_on_disk(
    toy_task, search_config, tmp_path, keep_all, rates
):
    space = SpaceConfig(growth=("random",), redistribution=("none",), learning_rate=rates)
    config = search_config(space=space, max_evals=4)
    run, counts = tmp_path / "run", []

    def count(kind, values):
        counts.append(len(list(run.glob("**/checkpoints/*/*.json"))))

    task = toy_task()._replace(evaluate=lambda state, split: float(state["segments"]))  # best first
    hyperprune(task, config, out=run, keep_all_checkpoints=keep_all, on_event=count)
    bound = num_states(config, keep_all=keep_all)
    assert bound - 2 <= max(counts) <= bound
    if keep_all:
        assert bound > num_states(config, keep_all=False)
