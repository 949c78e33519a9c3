"""LMDB's read transactions as the backend protocol's ``Reading``, and the names of what is in a file.

A transaction knows only the handles of named databases that were there when it began; see ``lmdb_write``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from struct import Struct
from types import TracebackType

import lmdb

from kvstore.backends.lmdb_errors import translate
from kvstore.backends.protocol import OWN_SPACE, Space
from kvstore.errors import StoreFormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self, TypeAlias

FORMAT_VERSION: Final = 1
META: Final = OWN_SPACE + "meta"
FORMAT_KEY: Final = b"format"
NAMES_START: Final = b"\x10"
NAMESPACE: Final = b"ns:"

Handles: TypeAlias = "dict[Space, Any]"


def database_name(space: Space) -> bytes:
    """The name of the LMDB database that keeps the space."""
    return space.encode() if space.startswith(OWN_SPACE) else NAMESPACE + space.encode()


def space_of(name: bytes) -> Space | None:
    """The space that the LMDB database of that name keeps; None for a name that nobody here has given."""
    try:
        if name.startswith(NAMESPACE):
            return name[len(NAMESPACE) :].decode()
        return name.decode() if name.startswith(OWN_SPACE.encode()) else None
    except UnicodeDecodeError:
        return None


def write_format(txn: Any, meta: Any) -> None:
    """Sign a new file as ours."""
    txn.put(FORMAT_KEY, str(FORMAT_VERSION).encode(), db=meta)


def check_format(found: bytes | None, path: str) -> None:
    """Refuse a file that is not signed, or signed by a newer format."""
    if found is None or not found.isdigit():
        raise StoreFormatError(
            f"{path} is an LMDB file, but not of kvstore, or its signature is damaged; choose another path, or restore it"
        )
    if int(found) > FORMAT_VERSION:
        raise StoreFormatError(
            f"{path} has format {int(found)}; this kvstore reads up to {FORMAT_VERSION}. Install a newer kvstore"
        )


def format_of(txn: Any, meta: Any) -> bytes | None:
    """The signature, or None in a file without one."""
    found: bytes | None = txn.get(FORMAT_KEY, db=meta)
    return found


class Figures:
    """What LMDB's record of a tree says of it."""

    __slots__ = ("branch_pages", "entries", "leaf_pages", "overflow_pages")

    def __init__(self, branch_pages: int, leaf_pages: int, overflow_pages: int, entries: int) -> None:
        self.branch_pages = branch_pages
        self.leaf_pages = leaf_pages
        self.overflow_pages = overflow_pages
        self.entries = entries


_TREE: Final = Struct("=8x QQQQ 8x")
"""``MDB_db`` of 64-bit LMDB 0.9: padding, flags, depth; pages by kind, entries; the root's page."""


class ReadTxn:
    """One consistent view; see ``protocol.Reading``."""

    __slots__ = ("_handles", "_path", "_txn", "id")

    def __init__(self, txn: Any, handles: Handles, path: str) -> None:
        self._txn = txn
        self._handles = handles
        self._path = path
        self.id: int = txn.id()

    @contextlib.contextmanager
    def translating(self) -> Iterator[Self]:
        try:
            yield self
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def knows(self, space: Space) -> bool:
        """Whether what this view says of the space is true: its handle is known, or it isn't in the file."""
        return space in self._handles or self._txn.get(database_name(space)) is None

    def get(self, space: Space, key: bytes) -> bytes | None:
        handle = self._handles.get(space) or self._handle(space)
        if handle is None:
            return None
        found: bytes | None = self._txn.get(key, None, handle)
        return found

    def count(self, space: Space) -> int:
        entries: int = self._figures(space).entries
        return entries if space else entries - sum(1 for _ in self._names())

    # What follows runs in C from one item to the next, and lets go of the cursor with the last reference to it.

    def scan(
        self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        items = self.scan_beyond(space, start, stop, reverse=reverse)
        if reverse:
            # A shorter tuple comes before the longer ones that it begins.
            return itertools.takewhile((start,).__le__, items)
        return items if stop is None else itertools.takewhile((stop,).__gt__, items)

    def scan_beyond(
        self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursor(space, start, stop, reverse)
        if cursor is None:
            return iter(())
        items: Iterator[tuple[bytes, bytes]] = cursor.iterprev() if reverse else cursor.iternext()
        return items

    def scan_keys(self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False) -> Iterator[bytes]:
        cursor = self._cursor(space, start, stop, reverse)
        if cursor is None:
            return iter(())
        if reverse:
            return itertools.takewhile(start.__le__, cursor.iterprev(values=False))
        keys: Iterator[bytes] = cursor.iternext(values=False)
        return keys if stop is None else itertools.takewhile(stop.__gt__, keys)

    def first_key(self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False) -> bytes | None:
        handle = self._handle(space)
        if handle is None:
            return None
        with self._txn.cursor(handle) as cursor:
            there = _seek_last(cursor, stop) if reverse else cursor.set_range(start)
            key: bytes = cursor.key()
        return key if there and start <= key and (stop is None or key < stop) else None

    def spaces(self) -> list[Space]:
        names = (space_of(name) for name in self._names() if name.startswith(NAMESPACE))
        return [name for name in names if name is not None and self.count(name)]

    def databases(self) -> list[Space]:
        """Every named space of the file, the library's own and the empty ones included."""
        return [space for space in map(space_of, self._names()) if space is not None]

    def live_pages(self) -> int:
        """How many pages hold something: those of every tree, and the two meta pages."""
        figures = [self._figures(space) for space in ("", *self.databases())]
        return 2 + sum(int(tree.branch_pages + tree.leaf_pages + tree.overflow_pages) for tree in figures)

    def _figures(self, space: Space) -> Figures:
        """The tree's figures; of a named one as the main database has them, which needs no handle. Nothing is counted of
        a space that isn't there.
        """
        handle = self._handles.get(space)
        if handle is not None:
            stat = self._txn.stat(handle)
            return Figures(stat["branch_pages"], stat["leaf_pages"], stat["overflow_pages"], stat["entries"])
        root = self._txn.get(database_name(space), None, self._handles[""])
        return Figures(0, 0, 0, 0) if root is None else Figures(*_TREE.unpack(root))

    def abort(self) -> None:
        """End the view."""
        self._txn.abort()

    def _handle(self, space: Space) -> Any:
        """The space's handle; None where the file has no such space."""
        return self._handles.get(space)

    def _names(self) -> Iterator[bytes]:
        with self._txn.cursor(self._handles[""]) as cursor:
            if cursor.set_range(NAMES_START):
                yield from cursor.iternext(values=False)

    def _cursor(self, space: Space, start: bytes, stop: bytes | None, reverse: bool) -> Any:
        """A cursor where a scan begins; None where nothing is there."""
        handle = self._handles.get(space) or self._handle(space)
        if handle is None:
            return None
        cursor = self._txn.cursor(handle)
        if reverse:
            return cursor if _seek_last(cursor, stop) else None
        return cursor if (cursor.set_range(start) if start else cursor.first()) else None


class View(ReadTxn):
    """A view that lasts as long as a ``with`` block."""

    __slots__ = ()

    def count(self, space: Space) -> int:
        if not space:
            return super().count(space)
        # As the main database has it, where a write transaction has it only once it is committed.
        root = self._txn.get(database_name(space))
        return 0 if root is None else Figures(*_TREE.unpack(root)).entries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._txn.abort()
        except lmdb.Error as failure:
            raise translate(failure, self._path) from failure
        if isinstance(error, lmdb.Error):
            raise translate(error, self._path) from error


def _seek_last(cursor: Any, stop: bytes | None) -> bool:
    """Put the cursor on the last key below ``stop``; whether there is one."""
    if stop is not None and cursor.set_range(stop):
        return bool(cursor.prev())
    return bool(cursor.last())
