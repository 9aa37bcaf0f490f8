"""Compiles spectra, training and topology updates for a TPU v5e or an H100, with neither at hand.

    python tests/aot/compile.py h100 lstm-paper-leading lstm-paper-update
    python tests/aot/compile.py h100 lstm-paper-train lstm-paper-population lstm-paper-population-40

Prints one JSON line a case: sizes, memory in bytes by the compiler's own analysis, custom calls,
seconds. A `population` is candidates that are trained side by side: without a number, the line says
how many fit, by a straight line through one and two of them; with a number, so many are compiled.
`test_compile.py` says what to install and what is asserted. It shows that every operation has a
kernel and that the program fits; not that the numbers or the speed are right.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import re
import time
from typing import Any, NamedTuple

# Memory hardly depends on the length. 32 steps are averaged, in intervals of 4, which divide the
# burn-in too: one loop to compile instead of three.
BATCH, LENGTH, BURN_IN, VOCABULARY = 4, 48, 16, 10_000


class Case(NamedTuple):
    """Sizes of a model and options of `rnn_lyapunov_spectrum`."""

    cell: str
    hidden_size: int
    num_layers: int
    num_exponents: int
    depth: int = 1
    state: str = "hidden"
    qr: str = "auto"


# The paper's models: the leading 30 % of the exponents, and all of them.
CASES = {
    "lstm-paper-leading": Case("lstm", 1500, 2, 450),
    "lstm-paper-all": Case("lstm", 1500, 2, 1500),
    "rhn-paper-leading": Case("rhn", 830, 1, 249, depth=10),
    "rhn-paper-all": Case("rhn", 830, 1, 830, depth=10),
    "lstm-small-full-state": Case("lstm", 64, 2, 128, state="full"),
    **{
        f"{cell}-small-{qr}": Case(cell, 64, 1 if cell == "rhn" else 2, 24, depth=depth, qr=qr)
        for cell, depth in (("lstm", 1), ("rhn", 3))
        for qr in ("householder", "solve", "cholesky", "lu")
    },
}

UPDATE = "lstm-paper-update"  # a topology update of the paper's LSTM, with gradients


class Training(NamedTuple):
    """A segment of training by the recipe of a preset."""

    preset: str
    averaging: bool = False
    precision: str = "float32"
    candidates: int = 0
    """How many train side by side, in place; 0 for a network alone, whose old state is kept."""


WINDOWS = 4  # of a segment; the windows themselves take 8.4 kB each, and memory nothing else
TRAINING = {
    f"{cell}-paper-train{suffix}": Training(f"paper-{cell}", **options)
    for cell in ("lstm", "rhn")
    for suffix, options in {
        "": {},
        "-averaging": {"averaging": True},
        "-bfloat16": {"precision": "bfloat16"},
    }.items()
}
POPULATION = re.compile(r"(lstm|rhn)-paper-population(?:-(\d+))?")
DEVICE_BYTES = {"v5e": 16 * 10**9, "h100": 80 * 10**9}
SHARE = 0.8  # of the memory, for a population

# XLA's description of a GPU (`GpuTargetConfigProto`) for an H100 SXM5 80 GB: the limits of compute
# capability 9.0 in the CUDA programming guide, the sizes in NVIDIA's data sheet and white paper.
H100 = {
    "platform_name": "CUDA",
    "device_description_str": "NVIDIA H100 80GB HBM3",
    "gpu_device_info": {
        "cuda_compute_capability": {"major": 9, "minor": 0},
        "core_count": 132,
        "fpus_per_core": 128,
        "clock_rate_ghz": 1.98,
        "device_memory_size": 80 * 10**9,
        "memory_bandwidth": 3350 * 10**9,
        "l2_cache_size": 50 * 2**20,
        "threads_per_warp": 32,
        "threads_per_block_limit": 1024,
        "threads_per_core_limit": 2048,
        "registers_per_block_limit": 64 * 2**10,
        "registers_per_core_limit": 64 * 2**10,
        "shared_memory_per_block": 48 * 2**10,
        "shared_memory_per_block_optin": 227 * 2**10,
        "shared_memory_per_core": 228 * 2**10,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
    },
    "runtime_version": {"major": 12, "minor": 9, "patch": 0},
    "dnn_version_info": {"major": 9, "minor": 10, "patch": 0},
}


def text_proto(message: dict[str, Any]) -> str:
    """A message in the text format of protocol buffers."""
    fields = []
    for name, value in message.items():
        if isinstance(value, dict):
            fields.append(f"{name} {{ {text_proto(value)} }}")
        else:
            fields.append(f"{name}: {json.dumps(value)}")
    return " ".join(fields)


def set_environment(target: str) -> None:
    """What the compilers read before JAX starts; no device is looked for."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target == "v5e":
        os.environ["XLA_FLAGS"] = ""
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"
        os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"
        os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
        os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # no device, so none to share
    else:
        nvidia = importlib.util.find_spec("nvidia")
        assert nvidia is not None and nvidia.submodule_search_locations is not None
        nvcc = pathlib.Path(nvidia.submodule_search_locations[0]) / "cuda_nvcc"
        # Autotuning would run kernels.
        os.environ["XLA_FLAGS"] = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={nvcc}"
        os.environ["PATH"] = f"{nvcc / 'bin'}{os.pathsep}{os.environ['PATH']}"


def absent_device(target: str) -> Any:
    """A device of the target, known by its description only."""
    from jax.experimental import topologies

    if target == "v5e":
        topology = topologies.get_topology_desc(topology_name="v5e:2x2", platform="tpu")
    else:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=text_proto(H100), topology="1x1x1"
        )
    return topology.devices[0]


def spectrum_of(case: Case) -> tuple[Any, Any]:
    """A program for a spectrum, and the shapes of its arguments."""
    import jax
    import jax.numpy as jnp

    from lsh_jax import ModelConfig, make_language_model, rnn_lyapunov_spectrum

    sizes = {"hidden_size": case.hidden_size, "num_layers": case.num_layers}
    if case.cell == "rhn":
        sizes["depth"] = case.depth
    config = ModelConfig(
        cell=case.cell, vocab_size=VOCABULARY, embed_size=case.hidden_size, **sizes
    )
    model = make_language_model(config)

    def spectrum(params: Any, tokens: Any, key: Any) -> Any:
        result = rnn_lyapunov_spectrum(
            model,
            params,
            tokens,
            state=case.state,
            num_exponents=case.num_exponents,
            burn_in=BURN_IN,
            qr=case.qr,
            key=key,
        )
        return result.exponents, result.std_error

    key = jax.eval_shape(lambda: jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((LENGTH, BATCH), jnp.int32)
    return spectrum, (jax.eval_shape(model.init, key), tokens, key)


def topology_update() -> tuple[Any, Any]:
    """A program for an update of the topology, and the shapes of its arguments."""
    import jax

    from lsh_jax import (
        ModelConfig,
        SparsityConfig,
        dynamic_sparsity,
        make_language_model,
        sparsity,
    )
    from lsh_jax.language_models import leaf_gates

    config = ModelConfig("lstm", VOCABULARY, embed_size=1500, hidden_size=1500, num_layers=2)
    updater = dynamic_sparsity(gates=leaf_gates(config), track_signs=True)

    def start(key: Any) -> Any:
        controls = sparsity.controls(SparsityConfig())
        params = make_language_model(config).init(key)
        return key, updater.init(key, params, controls), params, controls, params

    def update(key: Any, state: Any, params: Any, controls: Any, gradients: Any) -> Any:
        return updater.update(key, state, params, controls, gradients=gradients)

    return update, jax.eval_shape(start, jax.random.key(0))


def training(case: Training) -> tuple[Any, Any]:
    """A program for a segment of training, and the shapes of its arguments."""
    import jax
    import jax.numpy as jnp

    from lsh_jax import SparsityConfig, dynamic_sparsity, make_language_model, sparsity
    from lsh_jax.data.batching import Windows
    from lsh_jax.language_models import leaf_gates
    from lsh_jax.presets import PRESETS
    from lsh_jax.search.stacked_training import compile_stacked
    from lsh_jax.training import init_train_state, train_segment

    settings = PRESETS[case.preset]
    model = make_language_model(settings.model)
    recipe = dataclasses.replace(settings.train, precision=case.precision)
    updater = dynamic_sparsity(gates=leaf_gates(settings.model), track_signs=True)
    programs = compile_stacked(model, updater, recipe, jax.devices("cpu")[:1])
    controls = sparsity.controls(SparsityConfig())

    def start(key: Any) -> Any:
        state = init_train_state(model, updater, recipe, key, key, controls)
        if case.candidates:
            state = programs.stack([state] * case.candidates)
        shape = (WINDOWS, recipe.bptt, recipe.batch_size)
        tokens = jnp.zeros(shape, jnp.int32)
        each = (case.candidates,) if case.candidates else ()
        hyper = jax.tree.map(lambda value: jnp.full(each, value, jnp.float32), recipe.hyper())
        return state, hyper, Windows(tokens, tokens, jnp.zeros(shape)), key

    def together(*arguments: Any) -> Any:
        return programs.train(*arguments, case.averaging)

    alone = functools.partial(train_segment, model, recipe, averaging=case.averaging)
    return together if case.candidates else alone, jax.eval_shape(start, jax.random.key(0))


def measure(
    target: str, program: Any, abstract: Any, device: Any, *, in_place: bool = False
) -> dict[str, Any]:
    """Compiles a program for the device, one that uses up its first argument if `in_place`."""
    import jax

    place = jax.sharding.SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract
    )
    platform = "tpu" if target == "v5e" else "cuda"
    compiled = jax.jit(program, donate_argnums=0 if in_place else ())
    lowered = compiled.trace(*arguments).lower(lowering_platforms=(platform,))
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    memory, text = compiled.memory_analysis(), compiled.as_text()
    return {
        "argument": memory.argument_size_in_bytes,
        "output": memory.output_size_in_bytes,
        "alias": memory.alias_size_in_bytes,
        "temp": memory.temp_size_in_bytes,
        "peak": memory.peak_memory_in_bytes,
        "lowered_calls": _found(r"custom_call @(\w+)", lowered.as_text()),
        "compiled_calls": _found(r'custom_call_target="([^"]+)"', text),
        "host": _found(r"\b(infeed|outfeed|is_host_transfer=true|\w*callback\w*)\b", text),
        "compile_seconds": round(seconds, 1),
    }


def _found(pattern: str, text: str) -> list[str]:
    return sorted(set(re.findall(pattern, text)))


def needed(report: dict[str, Any]) -> int:
    """Bytes on the device while a program runs."""
    # The two accounts differ: a TPU's peak covers buffers that its temporary memory leaves out.
    own = report["argument"] + report["output"] - report["alias"] + report["temp"]
    return max(own, report["peak"])


def population(cell: str, size: int, target: str, device: Any) -> dict[str, Any]:
    """Compiles candidates side by side, `size` of them, or tells of 0 how many would fit."""

    def compiled(candidates: int) -> dict[str, Any]:
        case = Training(f"paper-{cell}", averaging=True, candidates=candidates)
        found = {**case._asdict(), **measure(target, *training(case), device, in_place=True)}
        return {**found, "needed": needed(found)}

    if size:
        return compiled(size)
    one, two = compiled(1), compiled(2)
    room = int(SHARE * DEVICE_BYTES[target])
    each = two["needed"] - one["needed"]
    largest = 1 + (room - one["needed"]) // each if one["needed"] <= room else 0
    state = two["argument"] - one["argument"]
    return {
        "needed": [one["needed"], two["needed"]],
        "each": each,
        "state": state,
        "room": room,
        "largest": largest,
        # Before and after an epoch the states lie beside the stack that is made of them.
        "largest_in_a_search": min(largest, room // (2 * state)),
        "host": sorted({*one["host"], *two["host"]}),
        "compile_seconds": [one["compile_seconds"], two["compile_seconds"]],
    }


def reported(name: str, target: str, device: Any) -> dict[str, Any]:
    """What compiling a case shows."""
    if found := POPULATION.fullmatch(name):
        return population(found[1], int(found[2] or 0), target, device)
    if name in TRAINING:
        case = TRAINING[name]
        found = {**case._asdict(), **measure(target, *training(case), device)}
        return {**found, "needed": needed(found)}
    if name == UPDATE:
        return measure(target, *topology_update(), device)
    sizes = {**CASES[name]._asdict(), "batch": BATCH}
    return {**sizes, **measure(target, *spectrum_of(CASES[name]), device)}


def known(name: str) -> str:
    """The name of a case."""
    if name in (*CASES, UPDATE, *TRAINING) or POPULATION.fullmatch(name):
        return name
    raise argparse.ArgumentTypeError(f"no such case: {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=("v5e", "h100"))
    names = ", ".join((*CASES, UPDATE, *TRAINING))
    told = f"{names}, {{lstm,rhn}}-paper-population, {{lstm,rhn}}-paper-population-NUMBER"
    parser.add_argument("cases", nargs="+", type=known, metavar="case", help=told)
    options = parser.parse_args()
    set_environment(options.target)
    device = absent_device(options.target)
    for name in options.cases:
        report = reported(name, options.target, device)
        print(json.dumps({"target": options.target, "case": name, **report}), flush=True)


if __name__ == "__main__":
    main()
