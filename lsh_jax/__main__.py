"""`python -m lsh_jax`: the command; `python -m lsh_jax --version`: versions and devices."""

import sys

from lsh_jax._version import __version__

if sys.argv[1:] == ["--version"]:
    print(f"lsh_jax {__version__}", flush=True)
    try:
        from lsh_jax.machine import describe_environment

        print(describe_environment())
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
try:
    from lsh_jax.cli import main  # takes seconds, in which Ctrl-C may come
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(main())
