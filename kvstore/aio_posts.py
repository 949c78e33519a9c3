"""Writes on their way from event loops through the group commit of a store, and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from kvstore.aio_threads import start_over_in_children
from kvstore.commit import Committer
from kvstore.commit_write import Write
from kvstore.errors import TransactionError


class Posted(Write):
    """A write that a task waits for, in its ``future``."""

    __slots__ = ("future", "home")

    future: asyncio.Future[Any]
    home: _Home


class Posts:
    """The posted writes of one store handle. Any number of loops may post, each in its thread. ``refuse`` is called,
    to raise, where somebody posts after the end.
    """

    def __init__(self, committer: Committer, refuse: Callable[[], object]) -> None:
        self._committer = committer
        self._refuse = refuse
        self._ended = False
        self._emptied: Callable[[], object] | None = None
        self.start_over_in_child()
        start_over_in_children(self)

    def start_over_in_child(self) -> None:
        """The loops, and what they have posted, are the parent's."""
        self._homes: dict[asyncio.AbstractEventLoop, _Home] = {}

    def post(self, write: Posted) -> Posted:
        """Have the write committed, and its future told when that is durable, or has failed."""
        if self._ended:
            self._refuse()
        committer = self._committer
        if committer.guest is not None:
            refuse_own_transaction(committer)
        loop = asyncio.get_running_loop()
        home = write.home = self._homes.get(loop) or self._home_of(loop)
        write.on_done = home.on_done
        write.future = loop.create_future()
        home.posted += 1
        try:
            committer.post(write)
        except Exception:
            # It is not queued, and never was or was withdrawn: nobody will settle it.
            home.posted -= 1
            self._look_whether_empty()
            raise
        except BaseException:
            self.take_back(write)
            raise
        return write

    def take_back(self, write: Posted) -> None:
        """Undo ``post`` where that is in time. Where it is being committed, that takes its course."""
        if self._committer.withdraw(write):
            write.home.posted -= 1
            self._look_whether_empty()

    def _home_of(self, loop: asyncio.AbstractEventLoop) -> _Home:
        for gone in [other for other in self._homes if other.is_closed()]:
            self._homes.pop(gone, None)
        return self._homes.setdefault(loop, _Home(loop, self._look_whether_empty))

    async def end(self) -> None:
        """Let nobody post any more, and wait until what was posted, by whatever loop, is settled."""
        self._ended = True
        loop = asyncio.get_running_loop()
        empty = asyncio.Event()
        self._emptied = lambda: loop.call_soon_threadsafe(empty.set)
        self._look_whether_empty()
        await empty.wait()

    def _look_whether_empty(self) -> None:
        if self._emptied is not None and all(home.posted == home.settled for home in list(self._homes.values())):
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                self._emptied()


class _Home:
    """The loop that writes come from. Its thread alone counts what is ``posted``, the committer's what is ``settled``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, afterwards: Callable[[], object]) -> None:
        self.posted = 0
        self.settled = 0
        self.on_done = self._on_done
        self._loop = loop
        self._afterwards = afterwards

    def _on_done(self, writes: Sequence[Posted]) -> None:
        """One call to the loop for all its writes that one commit has settled. Runs in the committer's thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_deliver, writes)
        self.settled += len(writes)
        self._afterwards()


def _deliver(writes: Sequence[Posted]) -> None:
    for write in writes:
        future = write.future
        if not future.done():
            if write.error is None:
                future.set_result(write.result)
            else:
                future.set_exception(write.error)


def refuse_own_transaction(committer: Committer) -> None:
    """Raise ``TransactionError`` where the running task has the turn, so that waiting for it would be for ever."""
    if committer.guest is not None and committer.guest is asyncio.current_task():
        raise TransactionError(
            "this task is inside a transaction of this store; use the transaction's own methods until it ends"
        )
