"""Transactions and snapshots for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from kvstore.aio_posts import refuse_own_transaction
from kvstore.aio_space import Readable, Writable
from kvstore.aio_threads import Threads
from kvstore.commit import Committer
from kvstore.errors import TransactionError
from kvstore.transaction import Snapshot as SyncSnapshot
from kvstore.transaction import SnapshotSpace as SyncSnapshotSpace
from kvstore.transaction import Transaction as SyncTransaction
from kvstore.transaction import TransactionSpace as SyncTransactionSpace

R = TypeVar("R")


class TransactionSpace(Writable):
    """One namespace inside a transaction. Reads see the transaction's own writes."""

    _space: SyncTransactionSpace


class Transaction(TransactionSpace):
    """All or nothing: made by ``Store.transaction``, used in an ``async with`` block.

    Itself it is the default space; ``namespace`` gives the others. The block's normal end commits, an exception, a
    cancellation too, rolls back. Other writers, of every process, wait until it ends, so keep it short. The task that began
    it must not write to the store by other ways before its end: ``TransactionError``.
    """

    _space: SyncTransaction

    def __init__(self, transaction: SyncTransaction, committer: Committer) -> None:
        # LMDB lets the thread that began a write transaction use it, and no other.
        super().__init__(transaction, Threads("kvstore-transaction", 1, _refuse))
        self._committer = committer
        self._began = False

    def namespace(self, name: str) -> TransactionSpace:
        """The namespace of that name, inside this transaction."""
        return TransactionSpace(self._space.namespace(name), self._threads)

    async def _run(self, work: Callable[[], R]) -> R:
        if not self._began:
            _refuse()
        return await super()._run(work)

    async def __aenter__(self) -> Self:
        refuse_own_transaction(self._committer)
        try:
            await self._threads.run(self._space.__enter__)
        except BaseException:
            # Where the task was cancelled, the thread may yet get the turn that it waits for.
            self._threads.submit(self._roll_back)
            self._threads.end(wait=False)
            raise
        self._began = True
        self._committer.guest = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._committer.guest = None
        try:
            await self._threads.run(lambda: self._space.__exit__(kind, error, traceback))
        finally:
            self._threads.end(wait=False)

    def _roll_back(self) -> None:
        error = TransactionError("nobody waits for this transaction any more")
        self._space.__exit__(TransactionError, error, None)

    def __repr__(self) -> str:
        return repr(self._space)


def _refuse() -> NoReturn:
    raise TransactionError("the transaction is not under way: use it inside `async with store.transaction() as tx:`")


class SnapshotSpace(Readable):
    """One namespace as of a snapshot's commit."""

    _space: SyncSnapshotSpace


class Snapshot(SnapshotSpace):
    """A frozen view of a store, whatever is written meanwhile: made by ``Store.snapshot``, ended by its ``async with``
    block or by ``close``. Itself it is the default space; ``namespace`` gives the others. Any task may use it.
    """

    _space: SyncSnapshot

    def namespace(self, name: str) -> SnapshotSpace:
        """The namespace of that name, as of this snapshot."""
        return SnapshotSpace(self._space.namespace(name), self._threads)

    async def namespaces(self) -> list[str]:
        """The names of the namespaces that have a record, or a list or a set, in order."""
        return await self._run(self._space.namespaces)

    async def close(self) -> None:
        """End the snapshot. Twice is fine."""
        await self._run(self._space.close)

    def __repr__(self) -> str:
        return repr(self._space)
