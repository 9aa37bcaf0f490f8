import inspect
import math

import pytest

from lsh_jax.config import ConfigError, SparsityConfig
from lsh_jax.sparsity import preset, presets


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_a_configuration_that_can_be_changed(name):
    changed = preset(name, sparsity=0.91, horizon=7, death_rate=0.123)
    assert isinstance(changed, SparsityConfig)
    assert (changed.sparsity, changed.horizon, changed.death_rate) == (0.91, 7, 0.123)
    assert f"`{name}`" in inspect.getdoc(presets)  # with its source


def test_presets_are_what_their_papers_say():
    assert preset("set").death == "set" and preset("set").init == "er"
    rigl = preset("rigl")
    assert (rigl.growth, rigl.init, rigl.death_rate) == ("gradient", "erk", 0.3)
    assert (rigl.schedule, rigl.rate_floor, rigl.stop_fraction) == ("cosine", 0.0, 0.75)
    assert (preset("snfs").growth, preset("snfs").redistribution) == ("momentum", "momentum")
    assert preset("selfish") == SparsityConfig(death_rate=0.8)
    assert preset("deepr").exclude_dropped and preset("dsr").exclude_dropped
    assert preset("one_shot").init_sampling == "magnitude"
    assert math.isinf(preset("one_shot").update_every)
    assert preset("gradual", horizon=5).sparsity_schedule == "cubic"


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="`name` must be one of set, deepr"):
        preset("top_kast")
    with pytest.raises(ConfigError, match="`sparsity` must lie in"):
        preset("set", sparsity=1.5)
    with pytest.raises(ConfigError, match="`set setting` must be one of sparsity, init"):
        preset("set", sparcity=0.5)
    with pytest.raises(ConfigError, match="`horizon` must be given for gradual"):
        preset("gradual")
