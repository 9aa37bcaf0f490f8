import pytest

from lsh_jax.config import ModelConfig
from lsh_jax.presets import PRESETS
from lsh_jax.sizes import describe_network, model_sizes


def test_the_papers_lstm_has_66_million_weights():
    sizes = model_sizes(PRESETS["paper-lstm"].model)
    # Embedding and decoder 10,000 x 1500, four matrices 1500 x 6000; biases 10,000 and 2 x 6000.
    assert sizes.weights == 2 * 15_000_000 + 4 * 9_000_000 == 66_000_000
    assert (sizes.biases, sizes.torch_biases) == (22_000, 34_000)
    assert sizes.multiply_adds == 66_000_000 - 15_000_000  # words are looked up


@pytest.mark.parametrize("preset", ["paper-rhn", "zilly-rhn"])
def test_the_papers_rhn_has_23_million_weights(preset):
    sizes = model_sizes(PRESETS[preset].model)
    # The table once, and 830 x 1660 for the input and each of 10 micro-steps.
    assert sizes.weights == 8_300_000 + 11 * 830 * 1660 == 23_455_800
    # torch has a bias for the input too: 11 x 1660 beside the decoder's 10,000.
    assert (sizes.biases, sizes.torch_biases) == (26_600, 28_260)
    assert sizes.multiply_adds == sizes.weights  # the table is the decoder


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("tanh", 1)])
def test_a_layer_of_torch_has_two_biases_of_all_gates(cell, gates):
    sizes = model_sizes(ModelConfig(cell, 11, 5, 7, num_layers=3))
    assert sizes.torch_biases == 3 * 2 * gates * 7 + 11


def test_the_network_is_told_in_a_line():
    config = ModelConfig("rhn", 10, 4, 4, num_layers=1, depth=3, tied=True)
    # 40 of the table and 4 matrices 4 x 8; biases 10 and 3 x 8, and 8 more of torch's.
    assert describe_network(config, model_sizes(config)) == (
        "Model: RHN 1 x 4, depth 3, embedding 4, tied: 168 weights and 34 biases (42 where the "
        "input and the state have one each), 168 multiply-adds a token"
    )
    unequal = ModelConfig("tanh", 10, 4, num_layers=2, layer_sizes=(3, 4))
    assert "TANH (3, 4), embedding 4, untied" in describe_network(unequal, model_sizes(unequal))
