"""A stop that is asked for by a signal, and happens where the run can go on from later."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Raised where a stop that was asked for has been carried out.

    Attributes:
      number: of the signal that asked for it.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


_asked = threading.Event()
_number = int(signal.SIGINT)


def ask(number: int = signal.SIGINT) -> None:
    """Asks what runs in this process to stop after the segment under way."""
    global _number
    _number = int(number)
    _asked.set()


def asked() -> bool:
    """Whether a stop has been asked for."""
    return _asked.is_set()


def forget() -> None:
    """Takes back what was asked."""
    _asked.clear()


def check() -> None:
    """Stops here if that has been asked for.

    Raises:
      Interrupted: then.
    """
    if asked():
        raise Interrupted(_number)


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a stop in the block; a second one stops at once."""

    def handle(number: int, frame: Any) -> None:
        del frame
        if asked():
            raise Interrupted(number)
        ask(number)
        print("\nstopping after this segment; once more stops at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():  # only it receives signals
        yield
        return
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        forget()
