"""Running functions in many threads at once, so that an error in any of them is the test's."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PATIENCE_SECONDS = 20.0


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    """Run each function in a thread of its own, all starting together; what they give, or the first error."""
    barrier = threading.Barrier(len(functions))

    def started(function: Callable[[], Any]) -> Any:
        barrier.wait(PATIENCE_SECONDS)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(started, function) for function in functions]
        return [future.result(PATIENCE_SECONDS) for future in futures]


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    """Let Python switch threads as often as it can, so that what may come between two steps does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; ``TimeoutError`` where it never does."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE_SECONDS * 1_000)):
        if condition():
            return
        waiting.wait(0.001)
    raise TimeoutError(condition)
