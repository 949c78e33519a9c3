"""A store in an event loop, and ways to hold its writers up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import kvstore
import kvstore.aio
from kvstore.backends.lmdb_write import WriteTxn
from tests.threads import PATIENCE_SECONDS

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end, within reason."""

ITEMS = {"a": 1, "b": [1, 2], "c": "three", ("d", 1): {"x": 1.5}, 5: None}


@contextlib.contextmanager
def running() -> Iterator[Run]:
    """A loop, which complains of what blocks it or is never awaited."""
    with asyncio.Runner(debug=True) as runner:
        yield lambda coroutine: runner.run(asyncio.wait_for(coroutine, PATIENCE_SECONDS))


@contextlib.contextmanager
def open_in(run: Run, path: Path) -> Iterator[kvstore.aio.Store]:
    """A store in a loop."""
    store = run(opened(path))
    try:
        yield store
    finally:
        run(store.close())


async def opened(path, **options):
    return await kvstore.aio.open(path, **{"durability": "none", **options})


async def settled(condition):
    """Give the loop away until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def own_threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("kvstore")}


def commits(store):
    """How many commits the file has seen."""
    return max(cell[0] for cell in store._engine.backend.commits)


@contextlib.contextmanager
def writers_waiting(other):
    """Nobody's write is committed inside; what is posted waits."""
    inside, done = threading.Event(), threading.Event()

    def hold():
        with other.transaction():
            inside.set()
            done.wait(PATIENCE_SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        done.set()
        holder.join()


@contextlib.contextmanager
def commits_held(monkeypatch):
    """Gives an event that is set when a commit is about to take place, and one that lets it."""
    reached, go_on = threading.Event(), threading.Event()
    commit = WriteTxn.commit

    def held(txn):
        reached.set()
        go_on.wait(PATIENCE_SECONDS)
        commit(txn)

    with monkeypatch.context() as patch:
        patch.setattr(WriteTxn, "commit", held)
        try:
            yield reached, go_on
        finally:
            go_on.set()
