"""Batches over several devices, in a process of its own that has eight of them."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import re
    import jax
    import jax.numpy as jnp
    import numpy as np
    from lsh_jax import ModelConfig, lyapunov_spectrum, make_language_model, rnn_lyapunov_spectrum

    jax.config.update("jax_num_cpu_devices", 8)
    mesh = jax.make_mesh((8,), ("batch",))
    model = make_language_model(ModelConfig(vocab_size=9, embed_size=4, hidden_size=6))
    params = model.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (20, 16), 0, 9)
    one = rnn_lyapunov_spectrum(model, params, tokens)
    many = rnn_lyapunov_spectrum(model, params, tokens, mesh=mesh, batch_chunk=1)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert len(many.q.sharding.device_set) == 8
    try:
        rnn_lyapunov_spectrum(model, params, tokens[:, :4], mesh=mesh)
    except ValueError as error:
        assert "multiple of the mesh's 8 columns" in str(error), error

    # Any map: inputs laid out over the devices, and a program without communication.
    auto = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    matrices = jax.random.normal(jax.random.key(2), (16, 30, 5, 5))
    laid_out = jax.device_put(matrices, jax.NamedSharding(auto, jax.P("batch")))

    def spectrum(matrices):
        return lyapunov_spectrum(lambda state, A: A @ state, jnp.ones(5), matrices).exponents

    run = jax.jit(jax.vmap(spectrum))
    text = run.lower(laid_out).compile().as_text()
    assert not re.search("all-gather|all-reduce|all-to-all|collective-permute", text)
    exponents = run(laid_out)
    assert len(exponents.sharding.device_set) == 8
    np.testing.assert_allclose(exponents, run(matrices), atol=1e-4)
    print("eight devices agree with one")
"""


@pytest.mark.slow
def test_a_batch_over_eight_devices_gives_the_result_of_one():
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == "eight devices agree with one\n", run.stderr
