"""`python -m lsh_jax.report RUN` writes the report of a search; of several RUN, a comparison."""

import argparse
import pathlib
import sys

from lsh_jax.config import ConfigError
from lsh_jax.report import write_comparison, write_report
from lsh_jax.search.ledger import LedgerError


def main(arguments: list[str] | None = None) -> int:
    """Writes a report, or a comparison.

    Args:
      arguments: of the command line; those of this process if not given.

    Returns:
      The exit status: 0, or 2 when there is no search to report.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lsh_jax.report",
        description="Writes the report of a search, finished or not, or compares several.",
    )
    parser.add_argument(
        "run",
        type=pathlib.Path,
        nargs="+",
        help="the run directory, which gets the report; of several, one page compares them",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        help="the page that compares several runs (default: compare.html; its Markdown beside it)",
    )
    flags = parser.parse_args(arguments)
    if len(flags.run) == 1 and flags.out is not None:
        parser.error("--out is for several runs; the report of one goes into its directory")
    try:
        written = _write(flags.run, flags.out)
    except (ConfigError, LedgerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(written)
    return 0


def _write(runs: list[pathlib.Path], out: pathlib.Path | None) -> pathlib.Path:
    if len(runs) == 1:
        write_report(runs[0])
        return runs[0] / "report.html"
    path = pathlib.Path("compare.html") if out is None else out
    write_comparison(runs, path)
    return path


if __name__ == "__main__":
    sys.exit(main())
