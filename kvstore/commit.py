"""Group commit: writers that arrive while a commit is under way share the next one.

A durable commit costs the same two flushes for one write as for a hundred. So whoever gets the turn commits for
everybody who is waiting, each in a nested transaction of its own: one's error is its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from kvstore.backends import Backend, Writing
from kvstore.coherence import Change, Changes
from kvstore.errors import TransactionError


class Tier(Protocol):
    """The part of a memory tier that a commit speaks to."""

    def forget(self, changed: Sequence[Change]) -> None:
        """Drop these keys: what memory knows of them may be about to end."""

    def abandon(self, changed: Sequence[Change]) -> None:
        """The commit failed."""

    def committed(self, commit: int, changed: Sequence[Change], remembered: Sequence[Any]) -> None:
        """The commit is durable: take note of what it changed, and take in the entries that were written."""


Remembered = dict[Tier, list[Any]]
"""The memory entries of what a transaction has written, by the tier they are for."""


class Write:
    """One writer's wish: what to do in the transaction, and what memory may know once it is durable.

    ``apply`` gets the transaction and the list ``remembered``, to which it appends the memory entries of what it
    has written; its result is the writer's. It may be called again in another transaction, never concurrently.
    """

    __slots__ = ("apply", "done", "error", "on_done", "remembered", "result", "tier")

    def __init__(
        self,
        apply: Callable[[Writing, list[Any]], Any],
        tier: Tier,
        on_done: Callable[[Write], None] | None = None,
    ) -> None:
        self.apply = apply
        self.tier = tier
        self.on_done = on_done
        self.remembered: list[Any] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False

    def run(self, txn: Writing) -> None:
        """Do it in ``txn``."""
        self.remembered.clear()
        self.result = self.apply(txn, self.remembered)
        txn.check_size()

    def finish(self, error: BaseException | None = None) -> None:
        """Settle the outcome, once."""
        if not self.done:
            self.error = error
            self.done = True
            if self.on_done is not None:
                self.on_done(self)


class Committer:
    """The one place of a process where transactions on a store are committed."""

    def __init__(self, backend: Backend, changes: Changes) -> None:
        self._backend = backend
        self._changes = changes
        self._waiting: deque[Write] = deque()
        self._turn = threading.Lock()
        self._holder: int | None = None

    def submit(self, write: Write) -> Any:
        """Commit ``write``, together with whatever else is waiting, and give its result or raise its error."""
        self._refuse_own_turn()
        self._waiting.append(write)
        try:
            with self._turn:
                if not write.done:
                    self._commit_waiting()
        except BaseException:
            # An interrupted write must not be committed after its caller was told.
            with contextlib.suppress(ValueError):
                self._waiting.remove(write)
            raise
        if write.error is not None:
            raise write.error
        return write.result

    @contextlib.contextmanager
    def transaction(self) -> Iterator[tuple[Writing, Remembered]]:
        """A transaction of the caller's own, in his thread: commits at the end of the block, rolls back on an
        exception. What is put into ``Remembered`` goes to the memory tiers once it is durable."""
        self._refuse_own_turn()
        with self._turn:
            try:
                self._holder = threading.get_ident()
                remembered: Remembered = {}
                with self._backend.transaction() as txn:
                    yield txn, remembered
                    self._make_durable(txn, remembered, [])
                self._settle(txn, remembered)
            finally:
                self._holder = None

    def _refuse_own_turn(self) -> None:
        if self._holder == threading.get_ident():
            raise TransactionError(
                "this thread is inside a transaction of this store; use the transaction's own methods until it ends"
            )

    def _commit_waiting(self) -> None:
        """Commit everything that waits. The caller has the turn."""
        batch: list[Write] = []
        commits: list[int] = []
        try:
            self._holder = threading.get_ident()
            for _ in range(len(self._waiting)):
                batch.append(self._waiting.popleft())
            self._backend.write(lambda txn: self._commit(txn, batch, commits))
        except Exception as error:
            _finish(batch, error)
        except BaseException:
            # Meant for this thread alone. The others' writes wait for a turn of their own, unless they may be in the file.
            if commits:
                _finish(batch, TransactionError("the commit was interrupted; read to see whether it took place"))
            else:
                self._waiting.extendleft(write for write in reversed(batch) if not write.done)
            raise
        else:
            _finish(batch, None)
        finally:
            self._holder = None

    def _commit(self, txn: Writing, batch: list[Write], commits: list[int]) -> None:
        remembered: Remembered = {}
        for write in batch:
            if len(batch) == 1:
                write.run(txn)
            else:
                _run_alone(write, txn)
            remembered.setdefault(write.tier, []).extend(write.remembered)
        self._make_durable(txn, remembered, commits)
        self._settle(txn, remembered)

    def _make_durable(self, txn: Writing, remembered: Remembered, commits: list[int]) -> None:
        """Forget in memory, then commit to the file. ``commits`` gets the id before the file may have it."""
        if not txn.changed:
            return
        try:
            for tier in remembered:
                tier.forget(txn.changed)
            self._changes.publish(txn.id, txn.changed)
            commits.append(txn.id)
            txn.commit()
        except BaseException:
            self._changes.retract(txn.id)
            for tier in remembered:
                tier.abandon(txn.changed)
            raise

    def _settle(self, txn: Writing, remembered: Remembered) -> None:
        """Remember in memory what is now in the file."""
        if txn.changed:
            self._changes.confirm(txn.id)
            for tier, entries in remembered.items():
                tier.committed(txn.id, txn.changed, entries)


def _run_alone(write: Write, txn: Writing) -> None:
    try:
        with txn.nested() as child:
            write.run(child)
    except Exception as error:
        write.remembered.clear()
        write.finish(error)


def _finish(batch: list[Write], error: Exception | None) -> None:
    for write in batch:
        write.finish(error)
