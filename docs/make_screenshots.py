"""Makes the pictures of `how-to/read-the-report.md`: the report of a run, section by section.

    python docs/make_screenshots.py RUN

RUN is the directory of a finished search; the pictures of the page are those of the preset quick,
seed 0. Needs Chromium on the path. Writes docs/pictures/report-*.png.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from lsh_jax.report import write_report

OUT = pathlib.Path(__file__).parent / "pictures"
SECTIONS = {  # by the start of their headings
    "result": "Result",
    "size": "Size and cost",
    "spectra": "Lyapunov spectra",
    "curves": "Distance to dense",
    "weights": "Where the live",
    "correlation": "Does a small",
    "rounds": "Rounds",
    "trials": "Trials",
    "cost": "What it cost",
}
WIDTH, HEIGHT, MARGIN = 920, 955, 16  # pixels; what is higher is cut
COLOURS = 96
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --virtual-time-budget=4000"
).split()


def take(page: pathlib.Path, picture: pathlib.Path, profile: str) -> None:
    """Takes a picture of a page, without the empty space below and beside it."""
    flags = [f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={profile}"]
    command = ["chromium", *FLAGS, *flags, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = Image.open(picture).convert("RGB")
    pixels = np.asarray(image)
    rows = np.flatnonzero((pixels != pixels[-1, -1]).any(axis=(1, 2)))
    bottom = min(HEIGHT, int(rows[-1]) + MARGIN)
    cut = image.crop((0, max(0, int(rows[0]) - MARGIN), WIDTH, bottom))
    few = cut.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def main(run: pathlib.Path) -> None:
    """Writes the report of a copy of a run anew, and takes its sections one by one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "first"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints"))
        write_report(copy)
        text = (copy / "report.html").read_text(encoding="utf-8")
        found = re.findall(r'<section id="(\w+)">\s*<h2>(.*?)</h2>', text, flags=re.DOTALL)
        for name, heading in SECTIONS.items():
            (section,) = (place for place, title in found if title.startswith(heading))
            only = f"header, nav, h2, section:not(#{section}) {{ display: none }}"
            page = copy / f"{name}.html"
            page.write_text(text.replace("</style>", f"{only}</style>", 1), encoding="utf-8")
            take(page, OUT / f"report-{name}.png", f"{folder}/profile")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
