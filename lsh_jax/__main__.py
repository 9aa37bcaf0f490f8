"""`python -m lsh_jax`: the command; `python -m lsh_jax --version`: the versions that matter."""

import sys

from lsh_jax._version import __version__
from lsh_jax.cli import main

if sys.argv[1:] == ["--version"]:
    print(f"lsh_jax {__version__}")
    sys.exit(0)
sys.exit(main())
