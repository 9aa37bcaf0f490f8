"""The report of a finished search: one self-contained page, and the same as Markdown.

`report.html` needs no script and asks nothing of any other place; both files say what the run
directory holds and nothing else, so writing them twice gives the same bytes. Pictures are those of
`lsh_jax.plots`.
"""

import pathlib

from lsh_jax.report import correlation, cost, evidence, sections, topology, trials
from lsh_jax.report.page import to_html, to_markdown
from lsh_jax.report.run import read_run
from lsh_jax.report.sections import headline

__all__ = ["headline", "write_report"]


def write_report(run: pathlib.Path) -> None:
    """Writes report.html and report.md into the directory of a finished search.

    Args:
      run: the run directory.

    Raises:
      ConfigError: when it is not that of a finished search.
      LedgerError: when its ledger cannot be read.
    """
    read = read_run(run)
    parts = [
        sections.result_section(read),
        *topology.size_sections(read),
        evidence.spectra_section(read),
        evidence.curves_section(read),
        *topology.topology_sections(read),
        correlation.correlation_section(read),
        sections.rounds_section(read),
        trials.trials_section(read),
        cost.cost_section(read),
        sections.settings_section(read),
    ]
    content = f"Hyperpruning: {read.name}", sections.subtitle(read), parts
    (run / "report.html").write_text(to_html(*content), encoding="utf-8")
    (run / "report.md").write_text(to_markdown(*content), encoding="utf-8")
