"""The two meta pages at the head of an LMDB 0.9 data file: read without LMDB, before LMDB may touch the file.

LMDB maps the file and trusts it: a file shorter than its meta pages say kills the process with SIGBUS on the first
read beyond the end. So what a file is gets decided here, from bytes.

Layout (LMDB 0.9, 64-bit, ``MDB_page`` header of 16 bytes, then ``MDB_meta``), offsets from the page's start::

      10  u16  flags: 8 for a meta page
      16  u32  magic 0xBEEFC0DE          88  48 bytes  the main database: its flags (u16, at 92), its root (u64, at 128)
      20  u32  data version (1)         136  u64  last page in use
      24  8 bytes  map address          144  u64  transaction id of the commit that wrote this page
      32  u64  map size
      40  48 bytes  the free list: the page size (u32, at 40), its root (u64, at 80)

A commit with transaction id N writes the meta page N mod 2.
"""

from __future__ import annotations

import mmap
import os
import struct

from kvstore.errors import StoreCorruptError, StoreFormatError
from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_META = struct.Struct("=10x H 4x I I 8x Q I 36x Q 4x H 34x Q Q Q")
_META_FLAG = 0x08
_TXN_ID_OFFSET = 144
_TXN_ID = struct.Struct("=Q")
_MIN_PAGE, _MAX_PAGE = 256, 65536
_READINGS = 16
"""How often meta pages that don't fit are read again, since they may just be written."""


class Geometry(Frozen):
    """What the newer meta page says of the file; sizes in bytes."""

    page_size: int
    free_root: int
    main_flags: int
    main_root: int
    last_page: int
    txn_id: int

    @property
    def needed_bytes(self) -> int:
        """How long the file is where every page up to the last one has been written."""
        return (self.last_page + 1) * self.page_size


def read_geometry(path: str) -> Geometry:
    """The geometry of the LMDB file at ``path``, others writing to it or not.

    Raises ``StoreFormatError`` where it is no LMDB 0.9 file, ``StoreCorruptError`` where it is one whose meta pages are
    cut off or damaged.
    """
    with open(path, "rb", buffering=0) as file:
        page_size = _page_size(path, file.read(_META.size), file.fileno())
        for _ in range(_READINGS):
            both = os.pread(file.fileno(), page_size + _META.size, 0)
            if len(both) < page_size + _META.size:
                raise StoreCorruptError(f"{path} is cut off within its meta pages; restore it from a backup")
            metas = both[: _META.size], both[page_size:]
            found = [Geometry(page_size, *_META.unpack(meta)[5:]) for meta in metas]
            wrong = _wrong_with(found) or next(filter(None, map(_wrong_in, metas)), "")
            if not wrong:
                break
        else:
            raise StoreCorruptError(f"{path} is damaged: {wrong}. Restore it from a backup or a dump")
    return max(found, key=lambda meta: meta.txn_id)


def _page_size(path: str, head: bytes, descriptor: int) -> int:
    """The size of the pages of what begins so, which is refused where it is no LMDB file of this kind."""
    if len(head) < _META.size:
        _refuse_short(path, head)
    _, magic, version, _, page_size, *_ = _META.unpack(head)
    sizes = [1 << bits for bits in range(_MIN_PAGE.bit_length() - 1, _MAX_PAGE.bit_length())]
    if magic == MAGIC and version == _DATA_VERSION and page_size in sizes:
        return int(page_size)
    if any(not _wrong_in(os.pread(descriptor, _META.size, size)) for size in sizes):
        raise StoreCorruptError(
            f"{path} is damaged: its first page is none of LMDB's. Restore it from a backup or a dump"
        )
    if magic != MAGIC:
        raise StoreFormatError(f"{path} is not a kvstore file; choose another path, or move it away")
    raise StoreFormatError(
        f"{path} is an LMDB file of another kind (data version {version}, page size {page_size}); "
        f"kvstore reads version {_DATA_VERSION}"
    )


def _wrong_in(meta: bytes) -> str:
    """What is wrong with a meta page; nothing in a good one."""
    if len(meta) < _META.size:
        return "a meta page is cut off"
    flags, magic, version, *_ = _META.unpack(meta)
    return "" if (flags, magic, version) == (_META_FLAG, MAGIC, _DATA_VERSION) else "a meta page is none of LMDB's"


def _wrong_with(metas: list[Geometry]) -> str:
    """What is wrong with the commits that the two meta pages are of.

    They follow each other, in every file but a fresh copy, whatever power cut there was. One that is off brings back what was
    before the last commit, or has the next commit overwrite the wrong page. (With ``durability="none"`` a crash of the
    system can leave others, and a tree that is not all there.)
    """
    ids = [meta.txn_id for meta in metas]
    if any(id % 2 != number for number, id in enumerate(ids) if id):
        return f"its meta pages are of the commits {ids[0]} and {ids[1]}, and commit N writes page N mod 2"
    if min(ids) and abs(ids[0] - ids[1]) != 1:
        return f"its meta pages are of the commits {ids[0]} and {ids[1]}, which don't follow each other"
    return ""


def _refuse_short(path: str, head: bytes) -> NoReturn:
    if head[16:20] == MAGIC.to_bytes(4, "little"):
        raise StoreCorruptError(f"{path} is cut off within its first page; restore it from a backup")
    kind = "empty" if not head else "not a kvstore file"
    raise StoreFormatError(f"{path} is {kind}; choose another path, or move it away")


def continue_txn_ids(descriptor: int, page_size: int, newest: int) -> None:
    """Let the commits of a new file go on where those of the one that it was made of have ended.

    LMDB numbers them from 1 again; ids that come twice would make a slow reader's value look current. Commit N writes meta page
    N mod 2, and a meta page that no commit has written, as in a copy of LMDB's, keeps its 0.
    """
    offsets = _TXN_ID_OFFSET, page_size + _TXN_ID_OFFSET
    ids = [int(_TXN_ID.unpack(os.pread(descriptor, _TXN_ID.size, offset))[0]) for offset in offsets]
    # Never back: what stands in the free list is of the commits that made the file.
    step = max(0, newest + 1 - max(ids))
    step += step % 2
    for offset, id in zip(offsets, ids, strict=True):
        if id:
            os.pwrite(descriptor, _TXN_ID.pack(id + step), offset)


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
