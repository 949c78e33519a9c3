"""Every error that a store raises, in one tree.

    KvstoreError
    |-- opening
    |   |-- StoreFormatError        not a kvstore file, or one of a newer format
    |   `-- StoreCorruptError       the file's structure is damaged or truncated
    |-- reading
    |   |-- CorruptRecordError      one record's checksum doesn't match
    |   `-- UnknownTypeError        the value's type is not known in this process
    |-- writing
    |   |-- InvalidKeyError         also a TypeError or a ValueError
    |   |-- UnstorableValueError    also a TypeError
    |   |-- StructureTypeError      a list's key used for a set, or the reverse; also a TypeError
    |   |-- ReadOnlyError
    |   |-- StoreFullError          max_size, or the disk, is reached
    |   `-- TransactionError        a transaction used out of its order
    |-- at any time
    |   |-- StoreClosedError
    |   |-- StoreBusyError          another process holds what is needed
    |   `-- StoreIOError            the operating system refused; also an OSError
    `-- loading
        `-- DumpFormatError         names the line

A missing key is a plain ``KeyError``, as with ``dict``.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator


class KvstoreError(Exception):
    """Root of every error that this library raises of its own."""


class StoreFormatError(KvstoreError):
    """The file is not a kvstore file, or it is of a newer format than this library reads."""


class StoreCorruptError(KvstoreError):
    """The file's structure is damaged: it is truncated, or a page is not what it must be."""


class CorruptRecordError(KvstoreError):
    """A record's bytes don't match their checksum, or can't be decoded."""

    def __init__(self, message: str, *, key: object = None, namespace: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.namespace = namespace


class UnknownTypeError(KvstoreError):
    """A value is read whose type this process doesn't know: it has not called ``kvstore.register`` for it, or lacks numpy,
    or ml_dtypes, for what is theirs.
    """


class InvalidKeyError(KvstoreError):
    """The key is outside the key model. Raised as one of two classes, a ``TypeError`` or a ``ValueError``."""


class InvalidKeyTypeError(InvalidKeyError, TypeError):
    """The key, or a part of it, is of a type that can't be a key."""


class InvalidKeyValueError(InvalidKeyError, ValueError):
    """The key is of a good type, but too long or not encodable."""


class UnstorableValueError(KvstoreError, TypeError):
    """The value would not come back exactly as it is, so it is refused before anything is written."""


class StructureTypeError(KvstoreError, TypeError):
    """The key has a structure of another kind: a set where a list is asked for, or the reverse. Raised by reads, too."""


class ReadOnlyError(KvstoreError):
    """A write to a store that was opened with ``readonly=True``."""


class StoreFullError(KvstoreError):
    """The store has reached ``max_size``, or the disk is full. Nothing is lost; reads and deletes work."""


class RoomPendingError(StoreFullError):
    """The store is full by its file's pages: of those, some may be free, but only for the transaction after the next."""


class TransactionError(KvstoreError):
    """A transaction or snapshot is used after its end, inside another one, or in another thread."""


class StoreClosedError(KvstoreError):
    """The store has been closed."""


class StoreBusyError(KvstoreError):
    """Another process or thread holds what is needed."""


class StoreIOError(KvstoreError, OSError):
    """The operating system refused to open, read or write the file."""


class DumpFormatError(KvstoreError):
    """A dump can't be loaded; ``line`` is the number of the offending line, from 1."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


@contextlib.contextmanager
def translating_refusals(path: str) -> Iterator[None]:
    """Raise what the operating system refuses in the block as a ``StoreIOError``."""
    try:
        yield
    except StoreIOError:
        raise
    except OSError as error:
        raise io_error(error, path) from error


def io_error(error: OSError, path: str) -> StoreIOError:
    """An operating system's refusal, as ours, keeping ``errno``."""
    advice = _ADVICE.get(error.errno or 0, "")
    return StoreIOError(error.errno or 0, f"{error.strerror or error}{advice}", path)


_ADVICE = {
    errno.EACCES: "; open it as a user who may read and write it (or with readonly=True), in a folder that lets files be made",
    errno.EPERM: "; open it as the user who owns it",
    errno.ENOENT: "; create the folder first",
    errno.EIO: "; the medium failed: check the system's log, and the file with `kvstore verify`",
}
