"""What each of LMDB's errors means to a user of the store.

Keyed by class name, so that a class which some builds of the binding lack needs no special case, and so that this
table needs no import of the binding. What is not in the table is judged by its error number.
"""

from __future__ import annotations

import errno
import os

from kvstore.errors import (
    KvstoreError,
    ReadOnlyError,
    RoomPendingError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreIOError,
    TransactionError,
    io_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol
else:
    Protocol = object

_DAMAGED: Final = "the file is damaged; run `kvstore verify` on it, and restore it from a backup or a dump"
_REOPEN: Final = "close every handle of the store in this process, and open it again"

_MEANING: Final[dict[str, tuple[type[KvstoreError], str]]] = {
    "MapFullError": (
        RoomPendingError,
        "the store is at its size limit; delete something, or open it with a larger max_size",
    ),
    "DiskError": (StoreFullError, "the disk is full; free some space and try again"),
    "ReadonlyError": (ReadOnlyError, "the store is read-only here; open it with readonly=False"),
    "VersionMismatchError": (
        StoreFormatError,
        "the file was written by an LMDB of another version; move its records by a dump",
    ),
    "InvalidError": (StoreFormatError, "the file is not an LMDB file; choose another path"),
    "IncompatibleError": (
        StoreFormatError,
        "a name in the file is not the kind of database that kvstore makes; choose another path",
    ),
    "EnvEncryptionError": (StoreFormatError, "the file is encrypted; kvstore reads plain files"),
    "CryptoFailError": (StoreFormatError, "the file is encrypted; kvstore reads plain files"),
    "CorruptedError": (StoreCorruptError, _DAMAGED),
    "PageNotFoundError": (StoreCorruptError, _DAMAGED),
    "BadChecksumError": (StoreCorruptError, _DAMAGED),
    "CursorFullError": (StoreCorruptError, _DAMAGED),
    "PageFullError": (StoreCorruptError, _DAMAGED),
    "NotFoundError": (StoreCorruptError, _DAMAGED),
    "KeyExistsError": (StoreCorruptError, _DAMAGED),
    "ProblemError": (StoreIOError, f"LMDB met an unexpected problem; {_REOPEN}"),
    "PanicError": (StoreIOError, f"an earlier write failed in the middle; {_REOPEN}"),
    "ReadersFullError": (
        StoreBusyError,
        "every reader slot is taken; close iterators and snapshots that are not in use",
    ),
    "TlsFullError": (StoreBusyError, "the process has too many stores open; close some"),
    "DbsFullError": (
        StoreBusyError,
        "the store has as many namespaces as it can; use tuple keys instead of more",
    ),
    "LockError": (StoreBusyError, "another process holds the store's lock file; try again"),
    "MapResizedError": (
        StoreBusyError,
        "another process has enlarged the store; end open iterations and try again",
    ),
    "BadRslotError": (StoreBusyError, f"the reader slot was lost; {_REOPEN}"),
    "TxnFullError": (TransactionError, "the transaction is too large; split it"),
    "BadTxnError": (
        TransactionError,
        "the transaction can't go on after the error before, or the file is damaged; start a new one, or verify the store",
    ),
    "BadDbiError": (TransactionError, "a namespace changed under the transaction; start a new one"),
    "BadValsizeError": (
        TransactionError,
        "a value is too large for LMDB, which takes less than 4 GiB; split it",
    ),
    "InvalidParameterError": (StoreIOError, f"LMDB refused the call; {_REOPEN}"),
    "MemoryError": (
        StoreIOError,
        "there is no memory for the store's map; lower max_size, or lift the limit on memory",
    ),
}

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NEARLY_FULL_LEAST: Final = 1 << 20
_NEARLY_FULL_MOST: Final = 64 << 20
_NEARLY_FULL_PART: Final = 8


class LmdbError(Protocol):
    """The part of ``lmdb.Error`` that is looked at."""

    @property
    def code(self) -> int: ...


def translate(error: LmdbError, path: str) -> KvstoreError:
    """The store's error that says the same, names the file and says what to do."""
    name = type(error).__name__
    if name in _MEANING:
        kind, advice = _MEANING[name]
        return kind(f"{path}: {advice} ({error})")
    # The binding sets it, but not on an error that is made in Python.
    code = getattr(error, "code", 0)
    if code in _FULL or (code == errno.EIO and _nearly_full(path)):
        # A disk that fills up in the middle of LMDB's write is a short write, which LMDB reports as EIO.
        return StoreFullError(f"{path}: the disk is full; free some space and try again ({error})")
    if code == errno.EROFS:
        return ReadOnlyError(f"{path}: the file system is read-only; open the store with readonly=True ({error})")
    if code > 0:
        return io_error(OSError(code, os.strerror(code)), path)
    if "closed" in str(error):
        return StoreClosedError(f"{path}: the store has been closed; open it again")
    return StoreIOError(f"{path}: {error}; {_REOPEN}")


def _nearly_full(path: str) -> bool:
    """Whether a write of some megabytes may have met the end of the disk. What it asked for isn't known, and what it had is
    free again; besides, file systems refuse before the last block is taken: ext4 while it has not yet placed what was written
    before.
    """
    try:
        state = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    part = state.f_blocks * state.f_frsize // _NEARLY_FULL_PART
    return state.f_bavail * state.f_frsize < max(_NEARLY_FULL_LEAST, min(part, _NEARLY_FULL_MOST))
