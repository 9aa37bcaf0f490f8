"""A toy search as a process to be killed: `search_process.py OUT [EXECUTOR]`, resumed if begun.

Every event is a line on standard output.
"""

import contextlib
import pathlib
import signal
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "search"))

import toy

from lsh_jax.config import SearchConfig, SpaceConfig
from lsh_jax.search import stopping
from lsh_jax.search.hyperpruning import hyperprune
from lsh_jax.search.process_executor import ProcessExecutor
from lsh_jax.search.ray_executor import RayExecutor

CONFIG = SearchConfig(
    max_evals=6,
    e0=2,
    ei=1,
    final_epochs=6,
    ask_batch=3,
    space=SpaceConfig(init=("uniform",), growth=("random",), redistribution=("none",)),
)


def open_executor(name):
    if name == "process":
        return ProcessExecutor(toy.make_task, 2)
    if name == "ray":
        return RayExecutor(toy.make_task, 2, environment={"PYTHONPATH": sys.path[-1]})
    return contextlib.nullcontext()


def say(kind, values):
    text = values["text"] if kind == "notice" else ""
    print(kind, text, flush=True)


def main():
    # A job in a shell's background starts with Ctrl-C ignored, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out, name = pathlib.Path(sys.argv[1]), (sys.argv[2:] or ["serial"])[0]
    with open_executor(name) as executor, stopping.on_signals():
        resume = (out / "config.json").is_file()
        hyperprune(toy.make_task(), CONFIG, executor, out=out, resume=resume, on_event=say)
    print("finished", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt as stop:
        sys.exit(128 + getattr(stop, "number", 2))
