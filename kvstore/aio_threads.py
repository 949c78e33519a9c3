"""Threads for what an event loop must not wait for: each store has a few, each transaction one."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

R = TypeVar("R")


class Threads:
    """A thread pool that any event loop may use. ``limit`` is how many threads it has at the most; None is Python's
    choice. ``refuse`` is called, to raise, where somebody comes after the end.
    """

    def __init__(self, name: str, limit: int | None, refuse: Callable[[], object]) -> None:
        self._name = name
        self._limit = limit
        self._refuse = refuse
        self._ended = False
        self.start_over_in_child()
        start_over_in_children(self)

    def start_over_in_child(self) -> None:
        """The threads are the parent's."""
        self._pool = ThreadPoolExecutor(self._limit, thread_name_prefix=self._name)
        self._working: set[Future[Any]] = set()

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Have it done by a thread."""
        if self._ended:
            self._refuse()
        future = self._pool.submit(work)
        self._working.add(future)
        future.add_done_callback(self._working.discard)
        return future

    async def run(self, work: Callable[[], R]) -> R:
        """What ``work()`` gives, done by a thread. Where the waiting task is cancelled, it is done nevertheless, unless it
        had not begun.
        """
        return await asyncio.wrap_future(self.submit(work))

    async def finish(self) -> None:
        """Wait until everything that was submitted is done."""
        while self._working:
            await asyncio.wait([asyncio.ensure_future(_ended(future)) for future in self._working])

    def end(self, *, wait: bool) -> None:
        """Let the threads end, when they have done what was submitted."""
        self._ended = True
        self._pool.shutdown(wait=wait)


async def _ended(future: Future[Any]) -> None:
    # Not asyncio.wrap_future, which would cancel the work together with who waits for it.
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
    await done.wait()


class _Forking(Protocol):
    def start_over_in_child(self) -> None: ...


_forking: weakref.WeakSet[_Forking] = weakref.WeakSet()


def start_over_in_children(thing: _Forking) -> None:
    """Have its ``start_over_in_child`` called in every forked child, as long as it lives."""
    _forking.add(thing)


def _start_over_in_child() -> None:
    for thing in list(_forking):
        thing.start_over_in_child()


os.register_at_fork(after_in_child=_start_over_in_child)
