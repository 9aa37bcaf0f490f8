"""The benchmark of saved models measures programs that agree, and files that are there."""

import json
import sys

import latency
import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    out = tmp_path_factory.mktemp("latency") / "lines.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["latency.py", "--smoke", "--sparsity", "0.67", f"--out={out}"])
        latency.main()
    (line,) = map(json.loads, out.read_text().splitlines())
    return line


def test_all_programs_compute_the_same_logits(line):
    assert set(line["latency_ms"]) == {"dense", "masked", "csr", "numpy", "bcsr"}
    assert line["error"] < 1e-5


def test_quartiles_lie_around_the_median(line):
    for times in line["latency_ms"].values():
        assert 0 < times["low_quartile"] <= times["median"] <= times["high_quartile"]


def test_every_matrix_is_as_sparse_as_asked_for():
    saved = latency.random_model(64, 500, 0.9)
    for name, masks in saved.masks.items():
        for leaf, mask in masks.items():
            share = np.mean(mask)
            # Binomial, at least 16,000 weights: four standard deviations are 0.0095.
            assert share == 1 if mask.ndim < 2 else abs(share - 0.1) < 0.0095, f"{name}/{leaf}"


def test_a_dense_file_holds_four_bytes_a_weight_and_more(line):
    # By hand: table and decoder 64 x 16 each, W and U 16 x 64 each in two layers, biases.
    weights = 2 * 64 * 16 + 4 * 16 * 64 + 2 * 64 + 64
    assert line["weights"] == weights
    assert line["bytes"]["npz"] > 4 * weights
    assert line["bytes"]["safetensors"] < line["bytes"]["npz"]
