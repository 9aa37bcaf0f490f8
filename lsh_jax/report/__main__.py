"""`python -m lsh_jax.report RUN_DIR` writes the report of a search, finished or not."""

import argparse
import pathlib
import sys

from lsh_jax.config import ConfigError
from lsh_jax.report import write_report
from lsh_jax.search.ledger import LedgerError


def main(arguments: list[str] | None = None) -> int:
    """Writes a report.

    Args:
      arguments: of the command line; those of this process if not given.

    Returns:
      The exit status: 0, or 2 when there is no search to report.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lsh_jax.report",
        description="Writes the report of a search, finished or not.",
    )
    parser.add_argument("run", type=pathlib.Path, help="the run directory")
    run = parser.parse_args(arguments).run
    try:
        write_report(run)
    except (ConfigError, LedgerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(run / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
