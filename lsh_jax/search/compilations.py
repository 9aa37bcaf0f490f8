"""Counts compiled programs, as `jax.monitoring` reports them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def count_compilations() -> Iterator[Callable[[], int]]:
    """Counts the programs that are compiled, or taken from the compile cache, in the block.

    Yields:
      A function that returns the count so far.
    """
    count = 0

    def listener(event: str, duration_secs: float, **_: Any) -> None:
        nonlocal count
        del duration_secs
        count += event == _EVENT

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield lambda: count
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
