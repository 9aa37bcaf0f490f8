import dataclasses

import pytest

from lsh_jax.presets import PRESETS, Settings, TrainingSettings, to_json, training_part


def test_the_search_knows_every_setting_of_training_by_the_same_default():
    own = {field.name: field for field in dataclasses.fields(Settings)}
    for field in dataclasses.fields(TrainingSettings):
        assert (own[field.name].default, own[field.name].type) == (field.default, field.type)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_named_after_itself_and_can_be_searched(preset):
    settings = PRESETS[preset]
    assert settings.preset == preset
    assert settings.search().final_epochs == settings.final_epochs


def test_a_recipe_for_the_sum_over_a_window_is_turned_into_one_for_the_mean():
    """35 steps: the gradient of the mean is a 35th, so that these steps are the published ones."""
    zaremba, zilly = PRESETS["zaremba-lstm"].train, PRESETS["zilly-rhn"].train
    assert zaremba.bptt == zilly.bptt == 35
    assert (zaremba.learning_rate, zaremba.weight_decay) == (1 * 35, 0)
    assert zilly.learning_rate == pytest.approx(0.2 * 35)
    for recipe, rate in ((zaremba, 1), (zilly, 0.2)):
        clipped = 10 * rate  # the longest step of the sum, and of the mean
        assert recipe.clip * recipe.learning_rate == pytest.approx(clipped)
    # What a step takes of a weight.
    assert zilly.weight_decay * zilly.learning_rate == pytest.approx(1e-7 * 0.2)


def test_the_recipes_of_the_paper_average_and_start_as_torch_does():
    for preset, rate, epochs in (("paper-lstm", 40.0, 100), ("paper-rhn", 15.0, 500)):
        settings = PRESETS[preset]
        train = settings.train
        assert (train.averaging, train.nonmonotone) == ("nt-asgd", 5)
        assert (train.learning_rate, train.clip, train.weight_decay) == (rate, 0.25, 1.2e-6)
        assert (settings.final_epochs, settings.data) == (epochs, "ptb")
        assert settings.model.two_biases
        assert settings.model.init_bound == 0
    assert PRESETS["paper-rhn"].model.transform_bias == 0
    assert PRESETS["paper-rhn"].train.locked_dropout


def test_the_settings_of_training_are_recorded_as_a_search_records_them():
    whole = to_json(PRESETS["small-rhn"])
    part = to_json(training_part(PRESETS["small-rhn"]))
    assert part == {name: whole[name] for name in part}
    assert set(whole) - set(part) == {"space_preset", "dense", "keep_checkpoints"}
