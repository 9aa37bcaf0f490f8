"""Commands in processes of their own, sizes that train in seconds, and what a run has written."""

import json
import os
import pathlib
import subprocess
import sys

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"

TINY_TRAINING = (
    "--model.hidden-size=8 --model.embed-size=8 --model.vocab-size=60 --model.num-layers=1 "
    "--train.batch-size=4 --train.bptt=8 --train.segments-per-epoch=2 --train.eval-batch-size=4 "
    "--spectrum.length=20 --spectrum.burn-in=5 --spectrum.batch=2 --final-epochs=4"
).split()


def run_script(name, *arguments, cache=None, **options):
    flags = [f"--cache-dir={cache}"] if cache else []
    return subprocess.run(
        [sys.executable, str(EXPERIMENTS / name), *map(str, arguments), *flags],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "120"},
        **options,
    )


def ledger(run):
    """The records of a run, but for their wall times."""
    rows = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    return [{**row, "wall_s": None} for row in rows]
