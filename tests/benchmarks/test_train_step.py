"""The benchmark of training measures what it says, prints JSON and goes on where it stopped."""

import dataclasses
import json

import flops
import jax
import jax.numpy as jnp
import make_tables
import numpy as np
import pytest
import train_cases
import train_step

from lsh_jax.language_models import make_language_model
from lsh_jax.sizes import model_sizes

LSTM, DRY, RHN = train_cases.smoke()


def _undropped(case):
    rates = dict.fromkeys(
        ("dropout_embed", "dropout_input", "dropout_hidden", "dropout_output"), 0.0
    )
    return dataclasses.replace(case, recipe=dataclasses.replace(case.recipe, **rates))


@pytest.mark.parametrize("name", ["lstm-650", "lstm-1500", "rhn-830"])
def test_the_products_of_a_step_have_the_flops_that_are_counted_for_it(name):
    # Six a multiplied weight and token: once forward, twice backward.
    case = train_cases.CASES[name]
    B, T = case.recipe.batch_size, case.recipe.bptt
    products = flops.train_products(case.model, B, T)
    total = sum(count * product.flops for product, count in products.items())
    assert total == 6 * model_sizes(case.model).multiply_adds * B * T


def test_a_step_of_the_paper_s_lstm_takes_214_gflop():
    # 4 H^2 for each of four matrices and H V of the decoder, H = 1500 and V = 10,000: 51 million
    # multiply-adds a token, six flops each, 700 tokens.
    case = train_cases.CASES["lstm-1500"]
    products = flops.train_products(case.model, 20, 35)
    total = sum(count * product.flops for product, count in products.items())
    np.testing.assert_allclose(total, 6 * (4 * 4 * 1500**2 + 1500 * 10_000) * 700)


@pytest.mark.parametrize("factors", ["a b", "aT b", "a bT", "b a"])
def test_a_product_multiplies_as_it_lies(factors):
    product = flops.Product("any", 3, 4, 5, factors, steps=2, matrices=2)
    found = train_step.multiply(product).run()
    shape = (2, 5, 3) if factors == "b a" else (2, 3, 5)
    assert [array.shape for array in found] == [shape, shape]
    assert train_step.multiply(product._replace(steps=0)).run()[0].shape == shape[1:]


@pytest.mark.parametrize("case", [LSTM, RHN], ids=["lstm", "rhn"])
def test_a_plain_scan_computes_the_layer_of_the_library(case):
    model = make_language_model(case.model)
    params = model.init(jax.random.key(0))
    tokens = train_cases.random_windows(case).inputs[0]
    hyper = jax.tree.map(jnp.float32, case.recipe.hyper())

    def logits(params):
        carry = model.init_carry(case.recipe.batch_size)
        key = jax.random.key(1)
        return model.apply(params, tokens, carry, key=key, dropout=hyper, locked=True)[0]

    ours = jax.jit(logits)(params)
    with train_cases._replaced("autodiff"):
        plain = jax.jit(lambda params: logits(params))(params)  # traced anew
    np.testing.assert_allclose(plain, ours, rtol=1e-5, atol=1e-6)
    assert np.std(plain) > 0


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["autodiff", "undropped", "averaging", "unmasked"])
def test_a_variant_trains_on_the_same_windows_as_the_library(variant):
    # Without dropout, in the first segment, none of these changes the loss of the first windows
    # but by what dead weights have learnt between the two.
    case = dataclasses.replace(DRY, windows=1)
    np.testing.assert_allclose(
        train_cases.segment(case, variant).run(), train_cases.segment(case).run(), rtol=1e-5
    )


@pytest.mark.long
@pytest.mark.slow
def test_without_masks_dead_weights_learn():
    masked, unmasked = (train_cases.segment(DRY, variant) for variant in ("library", "unmasked"))
    for _ in range(3):
        with_masks, without = masked.run(), unmasked.run()
    assert not np.allclose(with_masks, without, rtol=1e-6)


@pytest.mark.long
@pytest.mark.slow
def test_each_run_goes_on_from_the_weights_of_the_last():
    segment = train_cases.segment(dataclasses.replace(DRY, windows=1))
    losses = [float(segment.run()) for _ in range(8)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("case", [LSTM, RHN], ids=["lstm", "rhn"])
def test_pytorch_trains_the_same_model_to_the_same_weights(case):
    torch_training = pytest.importorskip("torch_training")
    case = _undropped(case)
    windows = train_cases.random_windows(case)
    state, updated = train_cases.start(case), train_cases.start(case)
    dense = updated.sparsity._replace(masks=jax.tree.map(jnp.ones_like, updated.sparsity.masks))
    hyper = jax.tree.map(jnp.float32, case.recipe.hyper())
    updated, nll, num_tokens = train_cases.train_segment(
        make_language_model(case.model),
        case.recipe,
        updated._replace(sparsity=dense),
        hyper,
        windows,
        jax.random.key(0),
    )
    model, train = torch_training.make(case.model, case.recipe, state.params, windows)
    np.testing.assert_allclose(train(), nll / num_tokens, rtol=1e-5)
    other, _ = torch_training.make(case.model, case.recipe, updated.params, windows)
    theirs, ours = dict(model.named_parameters()), dict(other.named_parameters())
    for name, param in ours.items():
        # Torch keeps two biases where ours keep their sum.
        pairs = {
            "bias_ih_l0": "bias_hh_l0",
            "bias_ih_l1": "bias_hh_l1",
            "input.bias": "recurrent.0.bias",
        }
        second = next((name.replace(a, b) for a, b in pairs.items() if name.endswith(a)), None)
        if "bias_hh" in name or name == "recurrent.0.bias":
            continue
        found = theirs[name] + (theirs[second] if second else 0)
        np.testing.assert_allclose(
            found.detach().numpy(), param.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "question", ["step", *(pytest.param(q, marks=pytest.mark.long) for q in ("profile", "epoch"))]
)
def test_smoke_prints_a_json_line_a_case_and_a_finished_case_is_not_run_again(
    question, tmp_path, capsys
):
    out = tmp_path / "lines.jsonl"
    flags = ["--smoke", f"--out={out}", *([] if question == "step" else [f"--{question}"])]
    train_step.main(flags)
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    records = [json.loads(line) for line in printed.splitlines()]
    expected = (LSTM, DRY, RHN) if question == "step" else (LSTM, RHN)
    assert [record["case"]["name"] for record in records] == [case.name for case in expected]
    for record in records:
        if question == "step":
            assert 0 < record["library"]["min_ms"] <= record["library"]["median_ms"]
            counted = sum(p["count"] * p["median_ms"] for p in record["products"])
            assert 0 < record["best_ms"] <= counted * (1 + 1e-3)
            assert ("undropped" in record) == (not record["case"]["dropout"])
        if question == "profile":
            np.testing.assert_allclose(sum(record["shares"].values()), 1, atol=1e-2)
        if question == "epoch":
            assert record["epoch_s"] > 0
            assert set(record["population"]) == {"1", "2", "4"}
    train_step.main(flags)
    assert capsys.readouterr().out == ""
    filled = make_tables.insert(
        f"<!-- table: train-{question} -->\n<!-- end -->\n",
        make_tables.tables(make_tables.read([out])),
    )
    assert "lstm 2 x 8" in filled and "rhn 1 x 8, depth 2, tied" in filled
