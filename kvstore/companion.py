"""The ``-ring`` file beside a store: the shared log of changes, and the locks by which processes know of each other.

Three kinds of locks, on one file that is open once in a process, each released by the system when its holder dies:

- *presence*: every process that has the store open holds a shared ``flock``; whoever gets an exclusive one is alone.
- *the write lock*, a lock on one byte, stands before LMDB's own, which can't be waited for with a time limit.
- *leases*: a lock on the byte that a key's hash names says that its value is being computed.

The locks on bytes belong to the open file where the system has such (Linux), and so does ``flock``; the two kinds don't get in
each other's way. Locks of the process, which the others have, come with a search for deadlocks that takes two threads of
a process for one, and finds some that aren't there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial

from xxhash import xxh3_64_intdigest

from kvstore.coherence import RING_BYTES, Change, Changes, NoChanges, Ring
from kvstore.errors import StoreBusyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MODE: Final = 0o600
_WRITE_BYTE: Final = 1 << 40
_TENURE_BYTES: Final = _WRITE_BYTE + 1
_TENURE_SPAN: Final = 1 << 32
_QUEUE_BYTE: Final = _WRITE_BYTE - 1
_WRITING_SPAN: Final = 2 + _TENURE_SPAN
_LEASE_BYTES: Final = 1 << 41
_LEASE_SPAN: Final = (1 << 61) - 1
_POLL_SECONDS: Final = 0.002
_OPENING_SECONDS: Final = 10.0
_HAS_FILE_LOCKS: Final = sys.platform == "linux" and sys.maxsize > 1 << 32


class _Bytes:
    """A file as ``coherence.RingFile``. What the disk has no room for, or the file has lost, is missing, which the ring
    knows to notice: the store's own writes must not fail for it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, position: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, position)
        except OSError:
            return b""

    def write(self, position: int, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, data, position)


class Companion:
    """The companion of one open store in this process. ``path`` is the ring file's; ``store`` the store file's device and
    inode. Where the medium is read-only and has no ring, there are no locks and nothing is known of others' changes.
    """

    def __init__(self, path: str, store: tuple[int, int]) -> None:
        self._path = path
        self._store = store
        self._file = -1
        self._ring: Ring | None = None
        self._changes: Changes = NoChanges()
        self.writing = False
        """Whether this process is between ``lock_writing`` and ``unlock_writing``; whoever unlocks sets it to False first, since
        an assignment can't be interrupted and a method of our own could be."""
        self._set_release()
        try:
            self._open()
        except BaseException:
            # An open file that nobody knows of would keep its locks.
            self.close()
            raise

    def _open(self) -> None:
        writable = True
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | flags, _MODE)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            writable = False
            try:
                self._file = os.open(self._path, os.O_RDONLY | flags)
            except OSError:
                return
        self._set_release()
        alone = self._try_alone()
        if not alone:
            _be_present(self._file, self._path)
        self._ring = Ring(_Bytes(self._file), self._store, self._lasts)
        self._changes = self._ring
        if alone:
            if writable:
                with contextlib.suppress(OSError, AttributeError):
                    os.posix_fallocate(self._file, 0, RING_BYTES)
                self._ring.reset()
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def _try_alone(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Run the block while no other process has the store open, and none can open it.

        The caller has the write lock: turning a shared lock into an exclusive one gives the shared one up for an instant, and
        two processes that try at once could each find the other gone.

        Raises ``StoreBusyError`` where another process has it open now, or the file was deleted under this one.
        """
        if self._file < 0 or not self._has_its_name():
            raise StoreBusyError(
                f"{self._path} is not there, so other processes can't be kept out; close the store everywhere"
            )
        try:
            if not self._try_alone():
                raise StoreBusyError(f"{self._path}: another process has the store open; close it there first")
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def _has_its_name(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except OSError:
            return False

    def follow(self, store: tuple[int, int]) -> None:
        """The store's file has been replaced by this one."""
        self._store = store
        if self._ring is not None:
            self._ring = Ring(_Bytes(self._file), store, self._lasts)
            if not self._ring.is_ours():
                self._ring.reset()
            self._changes = self._ring

    # -- the log of changes ------------------------------------------------------------------------------------------

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        self._changes.publish(commit, changed)

    def confirm(self, commit: int) -> None:
        self._changes.confirm(commit)

    def retract(self, commit: int) -> None:
        self._changes.retract(commit)

    def between(self, seen: int, current: int) -> list[Change] | None:
        return self._changes.between(seen, current)

    # -- locks -------------------------------------------------------------------------------------------------------

    def lock_writing(self, timeout: float | None, stated: float | None = None) -> None:
        """Take the right to write, before every other process.

        Raises ``StoreBusyError`` after ``timeout`` seconds, which may be what is left of those that were ``stated``.
        """
        # Who waits next holds the queue's byte, so that a process that writes without a pause can't take the lock again
        # before one that has waited for it.
        had = self._lock(_QUEUE_BYTE, timeout) and self._lock(_WRITE_BYTE, timeout)
        self._unlock(_QUEUE_BYTE)
        if not had:
            seconds = timeout if stated is None else stated
            raise StoreBusyError(
                f"another process has been writing to {self._path.removesuffix('-ring')} for {seconds} seconds; "
                "try again, or allow a longer timeout"
            )
        self.writing = True
        if self._ring is not None:
            self._ring.begin_tenure()
            # What tells others that this very tenure lasts: between getting the write lock and beginning a tenure the ring
            # still names the one before.
            self._lock(_TENURE_BYTES + self._ring.tenure % _TENURE_SPAN, 0)

    def _set_release(self) -> None:
        # One call into C, so that no interrupt comes between its beginning and its end, and a ``finally`` can rely on it.
        if self._file < 0:
            self.unlock_writing: Callable[[], object] = int
        elif _HAS_FILE_LOCKS:
            unlock = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, _QUEUE_BYTE, _WRITING_SPAN, 0)
            self.unlock_writing = partial(fcntl.fcntl, self._file, fcntl.F_OFD_SETLK, unlock)
        else:
            self.unlock_writing = partial(fcntl.lockf, self._file, fcntl.LOCK_UN, _WRITING_SPAN, _QUEUE_BYTE)

    def others_write(self) -> bool:
        """Whether another process holds the write lock at this moment, as far as the system can say."""
        return self._file >= 0 and _is_locked_elsewhere(self._file, _WRITE_BYTE)

    def _lasts(self, tenure: int) -> bool:
        """Whether whoever began this tenure is in it still."""
        if self.writing and self._ring is not None and self._ring.tenure == tenure:
            return True
        return _is_locked_elsewhere(self._file, _TENURE_BYTES + tenure % _TENURE_SPAN)

    def lock_lease(self, binding: bytes, timeout: float | None = None) -> bool:
        """Take the lease of a key; whether it was had within the time. A lease ends with its process at the latest."""
        return self._lock(_lease_byte(binding), timeout)

    def unlock_lease(self, binding: bytes) -> None:
        """Give the lease back."""
        self._unlock(_lease_byte(binding))

    def _lock(self, byte: int, timeout: float | None) -> bool:
        if self._file < 0:
            return True
        if timeout is None:
            _set_lock(self._file, fcntl.F_WRLCK, byte, wait=True)
            return True
        deadline = time.monotonic() + timeout
        while True:
            try:
                _set_lock(self._file, fcntl.F_WRLCK, byte, wait=False)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True

    def _unlock(self, byte: int, span: int = 1) -> None:
        if self._file >= 0:
            _set_lock(self._file, fcntl.F_UNLCK, byte, span, wait=False)

    # -- its end -----------------------------------------------------------------------------------------------------

    def reopen_in_child(self) -> None:
        """Part from the parent process's open file: its presence isn't this process's."""
        self.close()
        self._open()

    def close(self) -> None:
        """Let go of the file, and of every lock on it."""
        self._changes = NoChanges()
        self._ring = None
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            self._set_release()
            os.close(descriptor)


@contextlib.contextmanager
def present(path: str) -> Iterator[None]:
    """Run the block while no other process is replacing the store's file, where the companion at ``path`` is there already."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # Nobody has the store open, or what is wrong with the companion will be said when it is opened for good.
        yield
        return
    try:
        _be_present(file, path)
        yield
    finally:
        os.close(file)


def _be_present(file: int, path: str) -> None:
    """Hold the shared lock; an exclusive one, held while a file is being replaced, is waited for."""
    deadline = time.monotonic() + _OPENING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreBusyError(
                    f"{path}: another process is replacing the store's file; try again when it is done"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK: Final = struct.Struct("@hhqqi4x")


def _set_lock(descriptor: int, kind: int, byte: int, span: int = 1, *, wait: bool) -> None:
    if _HAS_FILE_LOCKS:
        command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(descriptor, command, _FLOCK.pack(kind, os.SEEK_SET, byte, span, 0))
    else:
        how = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX
        fcntl.lockf(descriptor, how if wait or kind == fcntl.F_UNLCK else how | fcntl.LOCK_NB, span, byte)


def _is_locked_elsewhere(descriptor: int, byte: int) -> bool:
    """Whether somebody else holds the lock on the byte; False where the system can't say."""
    if not _HAS_FILE_LOCKS:
        return False
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _lease_byte(binding: bytes) -> int:
    return _LEASE_BYTES + xxh3_64_intdigest(binding) % _LEASE_SPAN
