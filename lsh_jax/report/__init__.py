"""The report of a search: one self-contained page, and the same as Markdown.

`report.html` asks nothing of any other place, and its one script only adds to what is seen without
it: values under the pointer, a slider over the epochs, tables that sort. Both files say what the
run directory holds and nothing else, so writing them twice gives the same bytes. Pictures are those
of `lsh_jax.plots`, and those that `add_figure` adds. Several searches can be compared on a page of
their own. The page of a search that is still running reads itself again every half minute, in case
the report has been written anew.
"""

import os
import pathlib
from collections.abc import Sequence

from lsh_jax.config import ConfigError
from lsh_jax.report import comparison, correlation, cost, evidence, sections, topology, trials
from lsh_jax.report.figures import add_figure, figure_sections
from lsh_jax.report.page import Section, to_html, to_markdown
from lsh_jax.report.run import Run, read_run
from lsh_jax.report.sections import headline
from lsh_jax.report.standing import is_finished, read_any, read_standing
from lsh_jax.report.unfinished import unfinished_sections

__all__ = ["add_figure", "headline", "write_comparison", "write_report"]

_REFRESH = 30  # seconds


def write_report(run: pathlib.Path | str) -> None:
    """Writes report.html and report.md into the directory of a search, finished or not.

    Args:
      run: the run directory.

    Raises:
      ConfigError: when it is not that of a search.
      LedgerError: when its ledger cannot be read.
    """
    run, refresh = pathlib.Path(run), None
    if is_finished(run):
        read = read_run(run)
        parts = _finished_sections(read, run)
    else:
        standing = read_standing(run)
        read, parts = standing.run, list(unfinished_sections(standing))
        refresh = _REFRESH if standing.running else None
    content = f"Hyperpruning: {read.name}", sections.subtitle(read), parts
    _replace(run / "report.html", to_html(*content, refresh))
    _replace(run / "report.md", to_markdown(*content))


def write_comparison(runs: Sequence[pathlib.Path], path: pathlib.Path) -> None:
    """Writes one page that puts several searches side by side, finished or not, and its Markdown.

    Args:
      runs: their run directories, in the order of the page.
      path: the page to write, over what is there; its Markdown stands beside it, in ".md".

    Raises:
      ConfigError: when one is not that of a search, or is given twice, or there are fewer than
        two, or the page is to be called what its Markdown is.
      LedgerError: when the ledger of one cannot be read.
      OSError: when the file cannot be written.
    """
    if len(runs) < 2:
        raise ConfigError(f"`runs` must be two at least, got {len(runs)}.")
    if path.suffix == ".md":
        raise ConfigError(f"`out` must not end in .md, as its Markdown does, got {str(path)!r}.")
    found = dict(zip(comparison.name_runs(runs), map(read_any, runs), strict=True))
    subtitle = " · ".join(found)
    parts = list(comparison.comparison_sections(found))
    content = f"Comparison of {len(runs)} searches", subtitle, parts
    _replace(path, to_html(*content))
    _replace(path.with_suffix(".md"), to_markdown(*content))


def _finished_sections(run: Run, path: pathlib.Path) -> list[Section]:
    return [
        sections.result_section(run),
        *figure_sections(path),
        *topology.size_sections(run),
        evidence.spectra_section(run),
        evidence.curves_section(run),
        *topology.topology_sections(run),
        correlation.correlation_section(run),
        sections.rounds_section(run),
        trials.trials_section(run),
        cost.cost_section(run),
        sections.settings_section(run),
    ]


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a file in one step: who reads it meanwhile sees the old one or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        # "replace": a stranger's text may hold half a surrogate pair, which UTF-8 has no bytes for.
        with temporary.open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
