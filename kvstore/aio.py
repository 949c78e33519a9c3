"""The asyncio face of a store: the same methods, as coroutines.

>>> import asyncio, kvstore.aio
>>> async def main():                                         # doctest: +SKIP
...     async with kvstore.aio.open("features.kv") as store:
...         await store.set("cat.jpg", [0.25, 0.5])
...         async for key, value in store.scan():
...             print(key, value)
>>> asyncio.run(main())                                       # doctest: +SKIP

What the memory tier has is answered on the spot, without a thread and without giving the loop away. What must be read
from the file is read by a thread. A write is encoded on the loop and posted to the group commit, where all the tasks, and
all the threads, that write at one time share a commit; its coroutine returns when it is durable.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, Self, TypeVar

from kvstore import store as sync
from kvstore.aio_cached import CachedFace
from kvstore.aio_posts import Posts, refuse_own_transaction
from kvstore.aio_space import Scan
from kvstore.aio_threads import Threads
from kvstore.aio_transaction import Snapshot, SnapshotSpace, Transaction, TransactionSpace
from kvstore.engine import ClosedEngine
from kvstore.errors import StoreBusyError
from kvstore.stats import Counts, Stats
from kvstore.verify import VerifyReport

if TYPE_CHECKING:
    from kvstore.memoize import AsyncMemoize

__all__ = [
    "Namespace",
    "Opening",
    "Scan",
    "Snapshot",
    "SnapshotSpace",
    "Store",
    "Transaction",
    "TransactionSpace",
    "open",
]

P = ParamSpec("P")
R = TypeVar("R")


class _Closable(Protocol):
    async def close(self) -> None: ...


Opened = TypeVar("Opened", bound=_Closable)


class Opening(AbstractAsyncContextManager[Opened], Generic[Opened]):
    """Something that is being opened: await it, and close what you get; or use it in an ``async with`` block."""

    def __init__(self, open: Callable[[], Coroutine[Any, Any, Opened]]) -> None:
        self._open = open
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, Any, Opened]:
        return self._open().__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()


class Namespace(CachedFace):
    """A key space of its own within a store. Made by ``Store.namespace``."""

    _space: sync.Namespace

    def __init__(self, space: sync.Namespace, store: Store) -> None:
        super().__init__(space, store._threads, store._posts)
        # Held, so that a store of which only a namespace is left is not closed under it.
        self._store = store

    @property
    def name(self) -> str:
        """The name it has in the store."""
        return self._space.name

    @property
    def memoize(self) -> AsyncMemoize:
        """A decorator for functions whose results are to be kept in this namespace. See ``AsyncMemoize``."""
        from kvstore.memoize import AsyncMemoize

        return AsyncMemoize(self)

    async def stats(self) -> Counts:
        """This namespace's counters alone."""
        return self._space.stats()

    def __repr__(self) -> str:
        return f"<async {self._space!r}>"


class Store(CachedFace):
    """An open store for tasks: the methods of ``kvstore.Store`` as coroutines, ``contains`` and ``count`` for ``in`` and
    ``len``, and ``async for`` over scans. Made by ``kvstore.aio.open``.

    Any number of event loops, each in its thread, may use one.
    """

    _space: sync.Store

    def __init__(self, store: sync.Store, threads: Threads) -> None:
        super().__init__(store, threads, Posts(store._handle.engine.committer, _closed(store._handle.engine.identity)))
        self._namespaces: weakref.WeakValueDictionary[str, Namespace] = weakref.WeakValueDictionary()
        self._closing: asyncio.Task[None] | None = None

    # -- namespaces ----------------------------------------------------------------------------------------------

    def namespace(self, name: str) -> Namespace:
        """The namespace of that name; it comes to be with its first record."""
        space = self._space.namespace(name)
        found = self._namespaces.get(name)
        if found is None:
            found = self._namespaces.setdefault(name, Namespace(space, self))
        return found

    async def namespaces(self) -> list[str]:
        """The names of the namespaces that have a record, in order."""
        return await self._run(self._space.namespaces)

    async def drop_namespace(self, name: str) -> bool:
        """Remove a namespace with all its records; whether it had any."""
        refuse_own_transaction(self._engine.committer)
        return await self._run(lambda: self._space.drop_namespace(name))

    @property
    def memoize(self) -> AsyncMemoize:
        """A decorator for functions whose results are to be kept, in the namespace ``memo``. See ``AsyncMemoize``."""
        return self.namespace(sync.MEMO).memoize

    # -- transactions and snapshots ------------------------------------------------------------------------------

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """A transaction over all the namespaces: ``async with store.transaction() as tx:``. See ``Transaction``."""
        return Transaction(self._space.transaction(timeout=timeout), self._engine.committer)

    async def run(
        self,
        function: Callable[[Transaction], Awaitable[R]],
        *,
        attempts: int = 3,
        timeout: float | None = None,
    ) -> R:
        """``await function(transaction)`` inside a transaction, and its result, once that is durable.

        Tried again on ``StoreBusyError``, ``attempts`` times in all, so the function must do nothing but use the
        transaction.
        """
        for attempt in range(1, attempts + 1):
            try:
                async with self.transaction(timeout=timeout) as transaction:
                    return await function(transaction)
            except StoreBusyError:
                if attempt == attempts:
                    raise
        raise ValueError(f"attempts must be at least 1, not {attempts}")

    def snapshot(self) -> Opening[Snapshot]:
        """A frozen view of the store as it is now: ``async with store.snapshot() as view:``. See ``Snapshot``."""

        async def take() -> Snapshot:
            return Snapshot(await self._run(self._space.snapshot), self._threads)

        return Opening(take)

    # -- care of the file ----------------------------------------------------------------------------------------

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the store as it is now to a new file, compact, flushed, with the same permissions."""
        await self._run(lambda: self._space.backup(path))

    async def compact(self) -> None:
        """Rewrite the file without its free pages, and swap it in atomically."""
        refuse_own_transaction(self._engine.committer)
        await self._run(self._space.compact)

    async def verify(self, *, progress: Callable[[int], object] = lambda records: None) -> VerifyReport:
        """Check the file's structure, every record's checksum and value, and the expiry index. ``progress`` is called in
        another thread.
        """
        refuse_own_transaction(self._engine.committer)
        return await self._run(lambda: self._space.verify(progress=progress))

    async def stats(self) -> Stats:
        """Counters since this store was opened, and the state of memory and file now."""
        return await self._run(self._space.stats)

    # -- its end -------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the store, once the writes that are under way are settled. Twice is fine.

        Raises ``TransactionError`` inside a transaction of the same task.
        """
        if self._closing is None:
            refuse_own_transaction(self._engine.committer)
            self._closing = asyncio.get_running_loop().create_task(self._close())
        if self._closing.get_loop() is asyncio.get_running_loop():
            # Closing goes on where the task that waits for it is cancelled.
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        finished = False
        try:
            await self._posts.end()
            await self._threads.finish()
            await self._run(self._space.close)
            finished = True
        finally:
            if not finished:
                self._threads.submit(self._space.close)
            self._threads.end(wait=finished)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<async {self._space!r}>"


def _with_the_options_of(other: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    return lambda function: function


@_with_the_options_of(sync.open)
def open(location: str | os.PathLike[str], **options: Any) -> Opening[Store]:
    """Open the store at ``location``, with the options and errors of ``kvstore.open``:
    ``async with kvstore.aio.open(path) as store:``, or ``store = await kvstore.aio.open(path)``.
    """

    async def opened() -> Store:
        threads = Threads("kvstore-aio", None, _closed(os.fspath(location)))
        try:
            return Store(await threads.run(lambda: sync.open(location, **options)), threads)
        except BaseException:
            threads.end(wait=False)
            raise

    return Opening(opened)


def _closed(identity: str) -> Callable[[], NoReturn]:
    return ClosedEngine(identity).refuse
