"""Spectra, training and topology updates compiled for a TPU v5e and an H100, with neither at hand.

The wheels hold the compilers. They are large (1.4 GB) and no dependency of the library:

    pip install -c constraints.txt -e ".[test]" "jax[tpu]==0.10.2"
    pip install --no-deps jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2 nvidia-cuda-nvcc-cu12
    pytest -m aot

Without them every test is skipped. The compiler for the TPU takes minutes for each of the paper's
models: its time for a QR grows with the number of columns, and an RHN's training is unrolled over
its micro-steps.

What passes shows that each operation has a kernel on the target, that the program fits and that
nothing calls back to the host. It does not show that the numbers are right, nor how fast they
come; the workspace that cuSOLVER asks for at run time is not in the compiler's account of memory.
"""

import functools
import importlib.metadata
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.aot

SCRIPT = pathlib.Path(__file__).with_name("compile.py")
WHEELS = {
    "v5e": ("libtpu",),
    "h100": ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12"),
}
FRAMES = {"v5e": 12, "h100": 8}  # held at once, at most: LU on a TPU keeps more copies of its input
FURTHER_STATES = {"v5e": 2.75, "h100": 2}  # what a candidate needs at most, times its own state
DEVICE_BYTES = {"v5e": 16 * 10**9, "h100": 80 * 10**9}
# The first frame comes from Householder, whatever the back-end.
QR_CALLS = {"v5e": {"QrDecompositionBlock"}, "h100": {"cusolver_geqrf_ffi", "cusolver_orgqr_ffi"}}
FURTHER_CALLS = {
    ("v5e", "householder"): set(),
    ("v5e", "solve"): {"InvertDiagBlocksUpperTriangular"},
    ("v5e", "cholesky"): {"Cholesky", "InvertDiagBlocksUpperTriangular"},
    ("v5e", "lu"): {"LuDecompositionBlock"},
    ("h100", "householder"): set(),
    ("h100", "solve"): {"__cublas$triangularSolve"},
    ("h100", "cholesky"): {"cusolver_potrf_ffi", "__cublas$triangularSolve"},
    ("h100", "lu"): {"cusolver_getrf_ffi", "cu_lu_pivots_to_permutation"},
}
BACKENDS = ("householder", "solve", "cholesky", "lu")
SMALL = (
    "lstm-small-full-state",
    *(f"{cell}-small-{qr}" for cell in ("lstm", "rhn") for qr in BACKENDS),
)


@pytest.fixture(params=["v5e", "h100"])
def target(request):
    for wheel in WHEELS[request.param]:
        try:
            importlib.metadata.version(wheel)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"no {wheel}: the head of {pathlib.Path(__file__).name} installs it")
    return request.param


@functools.cache
def reports(target, *cases):
    """What `compile.py` says of each case, in a process of its own: it sets JAX's environment."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), target, *cases], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {report["case"]: report for report in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("cell", ["lstm", "rhn"])
@pytest.mark.parametrize("qr", BACKENDS)
def test_every_back_end_has_its_kernels(target, cell, qr):
    report = reports(target, *SMALL)[f"{cell}-small-{qr}"]
    assert set(report["compiled_calls"]) >= QR_CALLS[target] | FURTHER_CALLS[target, qr]
    assert report["host"] == []


def test_a_spectrum_of_everything_that_a_layer_carries_compiles(target):
    report = reports(target, *SMALL)["lstm-small-full-state"]
    assert set(report["compiled_calls"]) >= QR_CALLS[target]
    assert report["host"] == []


@pytest.mark.parametrize(
    "case", ["lstm-paper-leading", "lstm-paper-all", "rhn-paper-leading", "rhn-paper-all"]
)
def test_the_paper_s_models_fit_and_keep_no_matrix_of_past_steps(target, case):
    """The bound on working memory follows from what one step holds, whatever the length.

    Frames [L, B, N, K]: the carry, J Q, its factors and their workspace, `FRAMES` at most.
    Jacobians [L, B, N, N], of one micro-step of an RHN: one, and the term that is added last. The
    recurrent weights [L, D, H, G], for G = 4 H or 2 H, once more, as the loop reads them
    transposed. The Jacobians of all steps, or of all micro-steps of one, would not fit under it.
    """
    (report,) = reports(target, case).values()
    hidden, layers, batch = report["hidden_size"], report["num_layers"], report["batch"]
    frames = layers * batch * hidden * report["num_exponents"]
    jacobians = layers * batch * hidden**2
    gates = {"lstm": 4, "rhn": 2}[report["cell"]]
    weights = layers * report["depth"] * gates * hidden**2
    # The two accounts differ: a TPU's peak covers buffers that its temporary memory leaves out.
    working = max(report["temp"], report["peak"] - report["argument"])
    assert working <= 4 * (FRAMES[target] * frames + 2 * jacobians + weights)
    assert report["argument"] + report["output"] + working <= DEVICE_BYTES[target]
    assert set(report["compiled_calls"]) >= QR_CALLS[target]
    assert report["host"] == []


def test_a_topology_update_of_66_million_weights_takes_less_than_a_gigabyte(target):
    (report,) = reports(target, "lstm-paper-update").values()
    assert report["temp"] < 1e9
    assert report["host"] == []


@pytest.mark.parametrize("suffix", ["", "-averaging", "-bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "rhn"])
def test_training_of_the_paper_s_models_fits_beside_its_own_state(target, cell, suffix):
    """The state before and after a segment, and less than once more to work in.

    The state holds the weights, two arrays of averages as large, and masks; a step needs a gradient
    as large as the weights, and what a window leaves for the way back.
    """
    (report,) = reports(target, f"{cell}-paper-train{suffix}").values()
    assert report["needed"] <= 3 * report["argument"]
    assert report["needed"] <= DEVICE_BYTES[target]
    assert report["host"] == []


@pytest.mark.parametrize("cell", ["lstm", "rhn"])
def test_candidates_side_by_side_are_trained_in_place(target, cell):
    """Side by side they take the memory of their states, and what their steps need, no second one.

    So several of them fit, and each takes what the one before has taken: a line through one and two
    tells how many do.
    """
    (report,) = reports(target, f"{cell}-paper-population").values()
    assert report["largest_in_a_search"] >= 2
    assert report["state"] <= report["each"] <= FURTHER_STATES[target] * report["state"]
    np.testing.assert_allclose(report["needed"][0], report["each"], rtol=0.1)
    assert report["host"] == []
