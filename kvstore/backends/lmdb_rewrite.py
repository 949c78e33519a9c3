"""A store's file written anew, in the order of its keys, with full pages.

LMDB's own compact copy leaves out what is free, and keeps the pages as they are. Of records that were stored in the order
of their keys those are half empty: LMDB fills a page where each key comes after all others of it, and in the last page of
the default space the names of the other spaces come after every key.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterator

import lmdb

from kvstore.backends.lmdb_file import MODE
from kvstore.backends.lmdb_read import NAMES_START, space_of
from kvstore.errors import StoreCorruptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn, TypeAlias

    Item: TypeAlias = "tuple[memoryview, memoryview]"

_BYTES_AT_ONCE: Final = 4 << 20
"""So much of keys and values is written in one transaction, which keeps its pages in memory."""


def write_in_order(raw: Any, path: str, draft: str, most_names: int) -> bool:
    """Write what the environment of the file at ``path`` has into the empty one at ``draft``, which isn't flushed; whether that
    was done. It isn't where somebody else has made a database in the file: what its order is, LMDB's copy needs not know. Nor is
    it where the file has pages of another size than this machine gives to a new one.

    Nobody may write, or open a database of the environment, meanwhile. Raises ``lmdb.Error``, and ``StoreCorruptError`` where
    the records are not those, in number and order, that the file says it has.
    """
    pages = raw.info()["last_pgno"] + 1
    new = lmdb.open(
        os.fsencode(draft),
        subdir=False,
        lock=False,
        sync=False,
        # Far more than it can take: in order, no tree is larger than it was.
        map_size=(1 << 20) + 2 * pages * _page_size(raw),
        max_dbs=most_names,
        mode=MODE,
    )
    with contextlib.closing(new), raw.begin(buffers=True) as view:
        names = _names(view)
        if None in map(space_of, names) or _page_size(new) != _page_size(raw):
            return False
        # The names last, so that each key comes after all others when it is put.
        trees = deque([_Tree(path, view, None, None, view.stat()["entries"] - len(names), names[:1])])
        for name in names:
            source = raw.open_db(name, txn=view, create=False)
            trees.append(_Tree(path, view, source, name, view.stat(source)["entries"], []))
        while trees:
            with new.begin(write=True) as txn:
                room = _BYTES_AT_ONCE
                while trees and room > 0:
                    room -= trees[0].write(new, txn, room)
                    if not trees[0].left:
                        trees.popleft()
    return True


def _page_size(env: Any) -> int:
    size: int = env.stat()["psize"]
    return size


def _names(view: Any) -> list[bytes]:
    with view.cursor() as cursor:
        return [*map(bytes, cursor.iternext(values=False))] if cursor.set_range(NAMES_START) else []


class _Tree:
    """A database on its way into the new file; the main one has no name. ``left`` of its records are still to be put, and then
    ``end`` comes: the key of what isn't one of them.
    """

    def __init__(self, path: str, view: Any, source: Any, name: bytes | None, count: int, end: list[bytes]) -> None:
        self._path = path
        self._items: Iterator[Item] = view.cursor(source).iternext()
        self._name = name
        self._end = end
        self.left = count

    def write(self, new: Any, txn: Any, room: int) -> int:
        """Put the next records, to the one with which they have no room any more; how much they take."""
        size = 0

        def some() -> Iterator[Item]:
            nonlocal size
            for item in itertools.islice(self._items, self.left):
                yield item
                size += len(item[0]) + len(item[1])
                if size >= room:
                    return

        target = new.open_db(self._name, txn=txn)
        if self.left:
            with txn.cursor(target) as cursor:
                read, added = cursor.putmulti(some(), append=True)
            self.left -= read
            if not read or read != added:
                self._refuse()
        if not self.left and [bytes(key) for key, _ in itertools.islice(self._items, 1)] != self._end:
            self._refuse()
        return size

    def _refuse(self) -> NoReturn:
        space = "" if self._name is None else space_of(self._name)
        raise StoreCorruptError(
            f"{self._path}: the records of the space {space!r} are not those, in number and order, that the file says it has; "
            "run verify"
        )
