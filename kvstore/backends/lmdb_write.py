"""LMDB's write transactions as the backend protocol's ``Writing``, and the right to have one.

LMDB allows a database handle to be opened by one transaction of a process at a time, and a transaction knows only the
handles that were there when it began. Hence the rules here: whoever opens a handle holds the backend's write lock, and
a transaction carries the handles that it knows.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Iterator, Sequence

import lmdb

from kvstore.backends.lmdb_errors import translate
from kvstore.backends.lmdb_read import FORMAT_KEY, META, NAMES_START, NAMESPACE, Handles, ReadTxn, database_name
from kvstore.backends.protocol import OWN_SPACE, Space
from kvstore.errors import KvstoreError, RoomPendingError, StoreFullError, TransactionError
from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

MAX_SPACES: Final = 250
_HEADROOM_PAGES: Final = 16
_MOST_CHANGES: Final = 100_000
_NONE: Final[frozenset[Space]] = frozenset()


class SizeLimit(Frozen):
    """How much a store may hold: ``max_size`` less the headroom that lets deletes work when it is full."""

    path: str
    max_size: int | None

    def translated(self, error: lmdb.Error) -> KvstoreError:
        """As ``translate``, with the limit where that is what was met."""
        if isinstance(error, lmdb.MapFullError) and self.max_size is not None:
            return RoomPendingError(
                f"{self.path}: the file has reached max_size={self.max_size}; delete something, or raise max_size ({error})"
            )
        return translate(error, self.path)

    def check(self, used: int, page_size: int) -> None:
        """Raise ``StoreFullError`` where that many bytes in use are too many."""
        if self.max_size is None:
            return
        allowed = self.max_size - max(self.max_size // 16, _HEADROOM_PAGES * page_size)
        if used > allowed:
            raise StoreFullError(
                f"{self.path}: the write would take the store to {used} bytes in use; max_size={self.max_size} allows "
                f"{allowed}, the rest being kept so that deletes work. Delete something, or raise max_size"
            )


class WriteGate:
    """This process's right to write, which is also the right to open database handles.

    Use it as ``gate.check()``, then ``with gate.lock:``, and set ``holder`` inside. Only the ``with`` statement on the lock
    itself is safe from a signal: between a call of ``acquire`` and whatever would guard it an exception can come.
    """

    __slots__ = ("_path", "holder", "lock")

    def __init__(self, path: str) -> None:
        self._path = path
        self.lock = threading.Lock()
        self.holder: int | None = None

    def check(self) -> None:
        """Raise ``TransactionError`` where waiting would be for ever, since this thread holds the gate."""
        if self.holder == threading.get_ident():
            raise TransactionError(
                f"{self._path}: this thread is inside a transaction; use the transaction's own methods until it ends"
            )


class WriteTxn(ReadTxn):
    """The write transaction; see ``protocol.Writing``. ``known`` are the backend's handles, to which its commit adds."""

    __slots__ = ("_env", "_grew", "_known", "_limit", "_missing", "_whole", "changed")

    def __init__(self, env: Any, txn: Any, known: Handles, limit: SizeLimit, parent: Handles | None = None) -> None:
        # As the base's, which would be a call more for every commit.
        self._txn = txn
        self._handles = known if parent is None else parent
        self._path = limit.path
        self.id = txn.id()
        self._env = env
        self._known = known
        self._limit = limit
        self._grew = False
        self._whole: frozenset[Space] = _NONE
        self._missing: frozenset[Space] = _NONE
        self.changed: dict[tuple[Space, bytes], Any] = {}

    def count(self, space: Space) -> int:
        # Of one and the same space, that of what expires, it is asked before every put.
        if space in self._missing and space not in self._handles:
            return 0
        count = super().count(space)
        if not count and space not in self._handles:
            self._missing |= {space}
        return count

    def commit(self) -> None:
        self._txn.commit()
        if self._handles is not self._known:
            self._env.handles = self._handles

    def put(self, space: Space, key: bytes, record: bytes, note: Any = None) -> None:
        self._txn.put(key, record, db=self._handles.get(space) or self._create(space))
        self._grew = True
        if space not in self._whole:
            self.changed[space, key] = note
            if len(self.changed) > _MOST_CHANGES:
                self._hold_bound()

    def put_freeing(self, space: Space, key: bytes, record: bytes) -> None:
        self._txn.put(key, record, db=self._handles.get(space) or self._create(space))
        self._change(space, key, None)

    def put_all(self, space: Space, records: Sequence[tuple[bytes, bytes, Any]]) -> None:
        if len(records) == 1:
            # A cursor would cost more than the put.
            self.put(space, *records[0])
            return
        keys, values, notes = zip(*records, strict=True)
        with self._txn.cursor(self._handles.get(space) or self._create(space)) as cursor:
            cursor.putmulti(zip(keys, values, strict=True))
        self._grew = True
        if space not in self._whole:
            self.changed.update(zip(zip(itertools.repeat(space), keys), notes, strict=True))
            self._hold_bound()

    def delete(self, space: Space, key: bytes) -> bool:
        handle = self._handle(space)
        if handle is None or not self._txn.delete(key, db=handle):
            return False
        self._change(space, key, None)
        return True

    def clear(self, space: Space) -> None:
        handle = self._handle(space)
        if handle is None:
            return
        if space:
            # Emptied, not removed: removing the name would close a handle that other threads are reading with.
            self._txn.drop(handle, delete=False)
        else:
            for key in list(self.scan_keys(space, b"", NAMES_START)):
                self._txn.delete(key, db=handle)
        self._change_whole(space)

    @contextlib.contextmanager
    def nested(self) -> Iterator[WriteTxn]:
        child = None
        try:
            begun = self._env.raw.begin(parent=self._txn, write=True)
            child = WriteTxn(self._env, begun, self._known, self._limit, self._handles)
            begun = None
            child.id = self.id
            yield child
            child._txn.commit()
        except lmdb.Error as error:
            raise self._limit.translated(error) from error
        finally:
            begun = None
            if child is not None:
                txn, child._txn = child._txn, None
                try:
                    roll_back_where_referenced(txn)
                finally:
                    txn = None
        self._handles = child._handles
        self._grew |= child._grew
        for space in child._whole:
            self._change_whole(space)
        for (space, key), note in child.changed.items():
            self._change(space, key, note)

    def _change(self, space: Space, key: bytes, note: Any) -> None:
        if space not in self._whole:
            self.changed[space, key] = note
            if len(self.changed) > _MOST_CHANGES:
                self._hold_bound()

    def _hold_bound(self) -> None:
        """Of a transaction that changes too many keys to name, keep the spaces: memory must not grow with it."""
        if len(self.changed) > _MOST_CHANGES:
            for space in {space for space, _ in self.changed}:
                self._change_whole(space)

    def _change_whole(self, space: Space) -> None:
        self._whole |= {space}
        self.changed = {change: note for change, note in self.changed.items() if change[0] != space}
        self.changed[space, b""] = None

    def touch(self) -> None:
        meta = self._handle(META)
        self._txn.put(FORMAT_KEY, self._txn.get(FORMAT_KEY, db=meta), db=meta)

    def check_size(self) -> None:
        if self._grew and self._limit.max_size is not None:
            page_size = self._txn.stat()["psize"]
            self._limit.check(self.live_pages() * page_size, page_size)

    def _handle(self, space: Space) -> Any:
        handle = self._handles.get(space)
        if handle is None and self._txn.get(database_name(space)) is not None:
            return self._create(space)
        return handle

    def _create(self, space: Space) -> Any:
        if not space.startswith(OWN_SPACE) and self._txn.get(database_name(space)) is None:
            names = sum(1 for name in self._names() if name.startswith(NAMESPACE))
            if names >= MAX_SPACES:
                raise StoreFullError(
                    f"{self._path}: the store has {names} namespaces, as many as it can; use tuple keys instead of more, "
                    "or compact() it where some were dropped"
                )
        handle = self._env.raw.open_db(database_name(space), txn=self._txn)
        # Not into the dict that others use: until the commit nobody else may have the handle.
        self._handles = {**self._handles, space: handle}
        return handle


def roll_back_where_referenced(txn: Any) -> None:
    """End a write transaction that something else than the caller's one variable refers to.

    The caller then drops that variable, which ends the transaction too. ``Transaction.abort`` must not do it: py-lmdb 3.0 waits
    in it until no thread of the process is inside a call, and where a few threads keep reading that is for ever.
    """
    # The caller's variable, this function's, and the argument of the call.
    if txn is not None and sys.getrefcount(txn) > 3:
        txn.abort()
