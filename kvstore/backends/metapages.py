"""The two meta pages at the head of an LMDB 0.9 data file: read without LMDB, before LMDB may touch the file.

LMDB maps the file and trusts it: a file shorter than its meta pages say kills the process with SIGBUS on the first
read beyond the end. So what a file is gets decided here, from bytes.

Layout (LMDB 0.9, 64-bit, ``MDB_page`` header of 16 bytes, then ``MDB_meta``), offsets from the page's start::

      16  u32  magic 0xBEEFC0DE          72  48 bytes  root of the main database
      20  u32  data version (1)         ...
      24  8 bytes  map address          136  u64  last page in use
      32  u64  map size                 144  u64  transaction id of the commit that wrote this page
      40  48 bytes  root of the free list; its first u32 (at 40) is the page size

A commit with transaction id N writes the meta page N mod 2.
"""

from __future__ import annotations

import mmap
import os
import struct

from kvstore.errors import StoreCorruptError, StoreFormatError
from kvstore.frozen import Frozen

MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_META = struct.Struct("=16x I I 8x Q I 12x 32x 48x Q Q")
_TXN_ID_OFFSET = 144
_MIN_PAGE, _MAX_PAGE = 256, 65536


class Geometry(Frozen):
    """What the newer meta page says of the file; sizes in bytes."""

    page_size: int
    last_page: int
    txn_id: int

    @property
    def needed_bytes(self) -> int:
        """How long the file is where every page up to the last one has been written."""
        return (self.last_page + 1) * self.page_size


def read_geometry(path: str) -> Geometry:
    """The geometry of the LMDB file at ``path``.

    Raises ``StoreFormatError`` where it is no LMDB 0.9 file, ``StoreCorruptError`` where it is one cut off within its
    meta pages.
    """
    with open(path, "rb", buffering=0) as file:
        first = file.read(_META.size)
        if len(first) < _META.size:
            _refuse_short(path, first)
        magic, version, _, page_size, *_ = _META.unpack(first)
        if magic != MAGIC:
            raise StoreFormatError(f"{path} is not a kvstore file; choose another path, or move it away")
        if version != _DATA_VERSION or not _MIN_PAGE <= page_size <= _MAX_PAGE or page_size & (page_size - 1):
            raise StoreFormatError(
                f"{path} is an LMDB file of another kind (data version {version}, page size {page_size}); "
                f"kvstore reads version {_DATA_VERSION}"
            )
        file.seek(page_size)
        second = file.read(_META.size)
    if len(second) < _META.size:
        raise StoreCorruptError(f"{path} is cut off within its meta pages; restore it from a backup")
    metas = [Geometry(page_size, *_META.unpack(page)[4:]) for page in (first, second)]
    return max(metas, key=lambda meta: meta.txn_id)


def _refuse_short(path: str, head: bytes) -> None:
    if head[16:20] == MAGIC.to_bytes(4, "little"):
        raise StoreCorruptError(f"{path} is cut off within its first page; restore it from a backup")
    kind = "empty" if not head else "not a kvstore file"
    raise StoreFormatError(f"{path} is {kind}; choose another path, or move it away")


def continue_txn_ids(descriptor: int, page_size: int, newest: int) -> None:
    """Let the commits of a fresh compact copy go on where those of its source have ended.

    LMDB numbers a compact copy from 1 again, in meta page 1; ids that come twice would make a slow reader's value look
    current. The new id is the next odd number, since commit N writes meta page N mod 2.
    """
    os.pwrite(descriptor, struct.pack("=Q", newest + 1 | 1), page_size + _TXN_ID_OFFSET)


class CommitCells:
    """The transaction ids in the two meta pages, as they are in the file at this moment, whoever wrote them.

    ``cells`` holds two one-element views of the mapped pages: ``cells[n][0]`` is the id in meta page n, and looking
    at it costs no call. The mapping is the kernel's page cache, which is where LMDB's own ``pwrite`` of a meta page
    goes. (One strided view of both would cost a third more to index.)
    """

    def __init__(self, path: str, page_size: int) -> None:
        with open(path, "rb", buffering=0) as file:
            self._map = mmap.mmap(file.fileno(), 2 * page_size, access=mmap.ACCESS_READ)
        words = memoryview(self._map).cast("Q")
        first = _TXN_ID_OFFSET // 8
        second = first + page_size // 8
        self.cells = (words[first : first + 1], words[second : second + 1])

    def newest(self) -> int:
        """The id of the last commit."""
        return max(self.cells[0][0], self.cells[1][0])
