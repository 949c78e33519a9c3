"""Forked children that do something and say what came of it."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Callable
from typing import Any, Final

from tests.threads import PATIENCE_SECONDS

WARNING: Final = "ignore:This process .* is multi-threaded:DeprecationWarning"
"""Newer Pythons warn of what is tested here: forking while other threads run."""

STARTED: Final = {number: [number] for number in range(100)}
"""What the store has before the fork."""


class Child:
    """A forked child of this process, which calls a function and then ends without any cleaning up."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._reader)
            _tell(writer, function)
        os.close(writer)

    def answer(self) -> Any:
        """What the function gave, or raised."""
        ready, _, _ = select.select([self._reader], [], [], PATIENCE_SECONDS)
        if not ready:
            self.kill()
            raise TimeoutError("the child has not answered")
        with os.fdopen(self._reader, "rb") as answer:
            given, error = pickle.load(answer)
        assert os.waitpid(self.pid, 0)[1] == 0
        if error is not None:
            raise error
        return given

    def kill(self) -> None:
        """``kill -9``."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _tell(writer: int, function: Callable[[], Any]) -> None:
    answer: tuple[Any, BaseException | None]
    try:
        try:
            answer = (function(), None)
        except BaseException as error:  # nothing may get out into the copy of the test runner
            answer = (None, error)
        with os.fdopen(writer, "wb") as out:
            pickle.dump(answer, out)
    finally:
        os._exit(0)


def in_child(function: Callable[[], Any]) -> Any:
    """What the function gives, or raises, in a forked child."""
    return Child(function).answer()
