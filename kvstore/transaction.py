"""Transactions and snapshots: many reads and writes as one, over any of a store's namespaces.

Both are mappings with the methods of a store. What iterates over them reads in steps, each from where the last one
ended, so that no cursor lives between two steps: in a transaction the next step sees what was written meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType

from kvstore import elements, expiry
from kvstore.backends import Reading, Space, Writing
from kvstore.errors import TransactionError
from kvstore.keys import Key
from kvstore.memory import MemoryTier
from kvstore.reading import ReadableSpace
from kvstore.writing import Apply, WritableSpace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self, TypeVar

    R = TypeVar("R")

_FIRST_STEP: Final = 16
_LONGEST_STEP: Final = 256
_OF_THE_PARENT: Final = "the transaction is the parent process's; a forked child can't take part in it"


class _SteppingSpace(ReadableSpace):
    """Scans of a view that other calls use in between."""

    def _scan(self, span: tuple[bytes, bytes], reverse: bool, limit: int | None) -> Iterator[tuple[Key, Any]]:
        items = self._items(self._steps(self._space, span, reverse=reverse), span)
        return items if limit is None else _limited(items, limit)

    def _scan_keys(self, span: tuple[bytes, bytes], reverse: bool, limit: int | None) -> Iterator[Key]:
        steps = self._steps(self._space, span, reverse=reverse)
        found = self._decoded(key for key, raw in steps if self._is_live(raw))
        return found if limit is None else _limited(found, limit)

    def _walk(
        self, space: Space, locate: Callable[[Reading], tuple[bytes, bytes] | None], *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._view() as view:
            span = locate(view)
        if span is not None:
            yield from self._steps(space, span, reverse=reverse)

    def _steps(self, space: Space, span: tuple[bytes, bytes], *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        low, high = span
        length = _FIRST_STEP
        while True:
            with self._view() as view:
                step = list(itertools.islice(view.scan(space, low, high, reverse=reverse), length))
            yield from step
            if len(step) < length:
                return
            length = min(2 * length, _LONGEST_STEP)
            if reverse:
                high = step[-1][0]
            else:
                # The least key above: no encoded key is longer than its limit, this bound needn't be one.
                low = step[-1][0] + b"\0"


def _limited(found: Iterator[R], limit: int) -> Iterator[R]:
    """At most so many; a generator, so that whoever stops early can ``close`` it."""
    yield from itertools.islice(found, limit)


class TransactionSpace(_SteppingSpace, WritableSpace):
    """One space inside a transaction. Reads see the transaction's own writes; each call is undone whole if it fails."""

    def __init__(self, space: Space, transaction: Transaction, clock: expiry.Clock) -> None:
        super().__init__(space, clock)
        self._transaction = transaction

    def _open_txn(self) -> Writing:
        return self._transaction._open_txn()

    def _memory(self) -> MemoryTier:
        return self._transaction._memory()

    def _view(self, *also: Space) -> AbstractContextManager[Reading]:  # sees every space
        return self._open_txn().translating()

    def _source(self) -> object:
        return self._open_txn()

    def _commit(self, apply: Apply[R]) -> R:
        with self._open_txn().nested() as child:
            result = apply(child)
            child.check_size()
        return result

    def _note(self, *about: Any) -> Any:
        return self._memory().note(*about)


class Transaction(TransactionSpace):
    """All or nothing: made by ``Store.transaction``, used in a ``with`` block, by the thread that began it.

    Itself it is the default space; ``namespace`` gives the others. The block's normal end commits, an exception rolls
    back; the memory tier shows nothing of it before it is durable. Other writers, of every process, wait until it ends,
    so keep it short. After its end, and in another thread, its methods raise ``TransactionError``.
    """

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Writing]],
        tier: MemoryTier,
        clock: expiry.Clock,
        check_name: Callable[[str], str],
    ) -> None:
        # Not through the base, which would make a cycle of it: a transaction that nobody holds any more must end at once.
        WritableSpace.__init__(self, "", clock)
        self._begin = begin
        self._tier = tier
        self._check_name = check_name
        self._running: AbstractContextManager[Writing] | None = None
        self._txn: Writing | None = None
        self._thread: int | None = None
        self._process: int | None = None

    def namespace(self, name: str) -> TransactionSpace:
        """The namespace of that name, inside this transaction."""
        return TransactionSpace(self._check_name(name), self, self._clock)

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise TransactionError("a transaction is used once; begin another with store.transaction()")
        running = self._begin()
        self._txn = running.__enter__()
        self._running = running
        self._thread = threading.get_ident()
        self._process = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._txn = None
        if self._running is None:
            return
        if self._process == os.getpid():
            self._running.__exit__(kind, error, traceback)
        else:
            # In a forked child, which must not commit what is its parent's.
            lost = TransactionError(_OF_THE_PARENT)
            with contextlib.suppress(TransactionError):
                self._running.__exit__(TransactionError, lost, None)
            if kind is None:
                raise lost

    def _open_txn(self) -> Writing:
        if self._txn is None:
            raise TransactionError("the transaction is not under way: use it inside `with store.transaction() as tx:`")
        if self._process != os.getpid():
            raise TransactionError(_OF_THE_PARENT)
        if self._thread != threading.get_ident():
            raise TransactionError("a transaction belongs to the thread that began it; use the store in other threads")
        return self._txn

    def _memory(self) -> MemoryTier:
        return self._tier

    def __repr__(self) -> str:
        return f"<Transaction {'under way' if self._txn is not None else 'not under way'}>"


class SnapshotSpace(_SteppingSpace):
    """One space as of a snapshot's commit."""

    def __init__(self, space: Space, snapshot: Snapshot, clock: expiry.Clock) -> None:
        super().__init__(space, clock)
        self._snapshot = snapshot

    def _view(self, *also: Space) -> AbstractContextManager[Reading]:  # sees every space
        return self._locked_view()

    def _locked_view(self) -> AbstractContextManager[Reading]:
        return self._snapshot._locked_view()

    def _source(self) -> object:
        return self._snapshot._source()


class Snapshot(SnapshotSpace):
    """A frozen view of a store, whatever is written meanwhile: made by ``Store.snapshot``, ended by its ``with`` block or by
    ``close``. Itself it is the default space; ``namespace`` gives the others. Any thread may use it.

    The file can't reuse what the snapshot still sees: ``Stats.oldest_reader_lag`` shows how far it is behind.
    """

    def __init__(
        self, view: AbstractContextManager[Reading], clock: expiry.Clock, check_name: Callable[[str], str]
    ) -> None:
        # Not through the base, which would make a cycle of it: a snapshot that nobody holds any more must end at once.
        _SteppingSpace.__init__(self, "", clock)
        self._check_name = check_name
        self._ending = contextlib.ExitStack()
        self._reading: Reading | None = self._ending.enter_context(view)
        # LMDB lets one thread at a time into a transaction.
        self._lock = threading.RLock()

    def namespace(self, name: str) -> SnapshotSpace:
        """The namespace of that name, as of this snapshot."""
        return SnapshotSpace(self._check_name(name), self, self._clock)

    def namespaces(self) -> list[str]:
        """The names of the namespaces that have a record, or a list or a set, in order."""
        with self._locked_view() as view:
            return elements.namespaces(view)

    def close(self) -> None:
        """End the snapshot. Twice is fine."""
        with self._lock:
            self._reading = None
            self._ending.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _source(self) -> object:
        return self

    @contextlib.contextmanager
    def _locked_view(self) -> Iterator[Reading]:
        with self._lock:
            if self._reading is None:
                raise TransactionError("the snapshot has ended; take another with store.snapshot()")
            with self._reading.translating() as view:
                yield view

    def __repr__(self) -> str:
        return f"<Snapshot {'at commit ' + str(self._reading.id) if self._reading is not None else 'ended'}>"
