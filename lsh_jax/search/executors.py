"""Where trials run. An executor has the one method `submit(function, *arguments) -> Future`."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol


class Executor(Protocol):
    """The part of `concurrent.futures.Executor` that the search uses."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Starts `function(*arguments)` and returns the future of its result."""
        ...


class SerialExecutor:
    """Runs each call in this process when it is submitted."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Calls `function(*arguments)`; what it raises reaches the caller at once."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future
