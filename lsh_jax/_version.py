"""The version, readable without importing the package."""

__version__ = "0.1.0"
"""The version of the package, as `python -m lsh_jax --version` prints it."""
