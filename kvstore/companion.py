"""The ``-ring`` file beside a store: the shared log of changes, and the locks by which processes know of each other.

Four kinds of locks, on one file that is open once in a process, each released by the system when its holder dies:

- *presence*: every process that has the store open holds a shared ``flock``; whoever gets an exclusive one is alone.
- *the write lock*, a lock on one byte, stands before LMDB's own, which can't be waited for with a time limit.
- *writers*: a lock on the byte that a writer's number in the log names says that it goes on.
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
from collections.abc import Callable, Iterator
from functools import partial
from mmap import mmap

from xxhash import xxh3_64_intdigest

from kvstore.coherence import COMPANY, RING_BYTES, SLOTS_END, WRITERS, Change, Changes, NoChanges, Ring
from kvstore.errors import StoreBusyError, io_error, translating_refusals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MODE: Final = 0o600
_WRITE_BYTE: Final = 1 << 40
_QUEUE_BYTE: Final = _WRITE_BYTE - 1
_LEASE_BYTES: Final = 1 << 41
_LEASE_SPAN: Final = 1 << 60
_WRITER_BYTES: Final = 1 << 61
_TAKEN: Final = (errno.EACCES, errno.EAGAIN)
_POLL_SECONDS: Final = 0.002
_OPENING_SECONDS: Final = 10.0
_HAS_FILE_LOCKS: Final = sys.platform == "linux" and sys.maxsize > 1 << 32


_nothing: Final[Callable[[], object]] = int
_IN_COMPANY: Final = bytes(COMPANY) + b"\1"


class _Bytes:
    """A file as ``coherence.RingFile``. It is mapped where all that is mapped is on the disk already: with no room for a page
    that is written to, the system would end the process.
    """

    def __init__(self, descriptor: int) -> None:
        self.read = partial(os.pread, descriptor)
        self.write = partial(os.pwrite, descriptor)
        self.memory: mmap | None = None
        self._descriptor = descriptor

    def map(self) -> None:
        """Map what the disk has room for."""
        with contextlib.suppress(OSError):
            found = os.fstat(self._descriptor)
            if found.st_size >= SLOTS_END and found.st_blocks * 512 >= SLOTS_END:
                self.memory = mmap(self._descriptor, SLOTS_END)


class Companion:
    """The companion of one open store in this process. ``path`` is the ring file's; ``store`` the store file's device and
    inode. Where the medium is read-only and has no ring, there are no locks and nothing is known of others' changes.
    """

    def __init__(self, path: str, store: tuple[int, int]) -> None:
        self._path = path
        self._store = store
        self._file = -1
        self._ring: Ring | None = None
        self._mapped: mmap | None = None
        self.changes: Changes = NoChanges()
        """The log of changes, for who has the write lock."""
        self.head: bytes | mmap = _IN_COMPANY
        """At ``company_at``, whether any other process may have opened the store; None has, where it is 0, up to this instant."""
        self.company_at = COMPANY
        self._set_calls()
        try:
            with translating_refusals(path):
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
        self._set_calls()
        alone = self._try_alone()
        if not alone:
            _be_present(self._file, self._path)
        file = _Bytes(self._file)
        if alone:
            if writable:
                with contextlib.suppress(OSError, AttributeError):
                    os.posix_fallocate(self._file, 0, RING_BYTES)
                Ring(file, self._store, self._goes_on).reset()
            fcntl.flock(self._file, fcntl.LOCK_SH)
        if writable:
            file.map()
        self._mapped = file.memory
        self._ring = self.changes = Ring(file, self._store, self._goes_on)
        if not alone:
            self._ring.join()
        elif file.memory is not None:
            self.head = file.memory

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
        with translating_refusals(self._path):
            try:
                if not self._try_alone():
                    raise StoreBusyError(f"{self._path}: another process has the store open; close it there first")
                yield
            finally:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_SH)
                except OSError:
                    # Once more: held on, it keeps everybody else out for as long as this process has the store open.
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
            self._ring.follow(store)

    def between(self, seen: int, current: int) -> list[Change] | None:
        """What the commits in between have changed; see ``Changes.between``."""
        return self.changes.between(seen, current)

    # -- locks -------------------------------------------------------------------------------------------------------

    def try_lock_writing(self) -> bool:
        """As ``lock_writing``, without waiting; whether it was had. The way of nearly every commit."""
        if self._file >= 0:
            try:
                # Both bytes, so that nobody who waits for the second one is overtaken.
                self._try_both_bytes()
                self._leave_queue()
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise io_error(error, self._path) from error
                return False
            if not self.changes.writer:
                self._begin_writer()
        return True

    def lock_writing(self, timeout: float | None, stated: float | None = None) -> None:
        """Take the right to write, before every other process.

        Raises ``StoreBusyError`` after ``timeout`` seconds, which may be what is left of those that were ``stated``.
        """
        # Who waits next holds the queue's byte, so that a process that writes without a pause can't take the lock again and
        # again before one that has waited for it.
        deadline = _deadline(timeout)
        had = self._lock(_QUEUE_BYTE, deadline) and self._lock(_WRITE_BYTE, deadline)
        self._unlock(_QUEUE_BYTE)
        if not had:
            seconds = timeout if stated is None else stated
            raise StoreBusyError(
                f"another process has been writing to {self._path.removesuffix('-ring')} for {seconds} seconds; "
                "try again, or allow a longer timeout"
            )
        if not self.changes.writer:
            self._begin_writer()

    def _begin_writer(self) -> None:
        """Go on as a writer that nobody has heard of, the first or the next."""
        if self._ring is not None:
            number = int.from_bytes(os.urandom(8), "big") % WRITERS + 1
            self._lock(_WRITER_BYTES + number, 0)
            self.end_writer = _locking(self._file, fcntl.F_UNLCK, _WRITER_BYTES + number, 1)
            self._ring.writer = number

    def _set_calls(self) -> None:
        # One call into C each, so that no interrupt comes between its beginning and its end, and who cleans up can rely on it.
        calls = [_nothing] * 4
        if self._file >= 0:
            calls = [
                _locking(self._file, fcntl.F_WRLCK, _WRITE_BYTE, 1),
                _locking(self._file, fcntl.F_WRLCK, _QUEUE_BYTE, 2),
                _locking(self._file, fcntl.F_UNLCK, _QUEUE_BYTE, 1),
                _locking(self._file, fcntl.F_UNLCK, _QUEUE_BYTE, 2),
            ]
        self.take_write_byte, self._try_both_bytes, self._leave_queue, self.unlock_writing = calls
        self.end_writer = _nothing
        """Have nobody believe what has been published; whoever calls it sets ``changes.writer`` to 0 first."""

    def others_write(self) -> bool:
        """Whether another process holds the write lock at this moment, as far as the system can say."""
        return self._file >= 0 and _is_locked_elsewhere(self._file, _WRITE_BYTE)

    def _goes_on(self, writer: int) -> bool:
        return writer == self.changes.writer or _is_locked_elsewhere(self._file, _WRITER_BYTES + writer)

    def lock_lease(self, binding: bytes, timeout: float | None = None) -> bool:
        """Take the lease of a key; whether it was had within the time. A lease ends with its process at the latest."""
        return self._lock(_lease_byte(binding), _deadline(timeout))

    def unlock_lease(self, binding: bytes) -> None:
        """Give the lease back."""
        self._unlock(_lease_byte(binding))

    def _lock(self, byte: int, deadline: float | None) -> bool:
        if self._file < 0:
            return True
        if deadline is None:
            with translating_refusals(self._path):
                _set_lock(self._file, fcntl.F_WRLCK, byte, wait=True)
            return True
        while True:
            try:
                _set_lock(self._file, fcntl.F_WRLCK, byte, wait=False)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise io_error(error, self._path) from error
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True

    def _unlock(self, byte: int, span: int = 1) -> None:
        if self._file >= 0:
            with translating_refusals(self._path):
                _set_lock(self._file, fcntl.F_UNLCK, byte, span, wait=False)

    # -- its end -----------------------------------------------------------------------------------------------------

    def reopen_in_child(self) -> None:
        """Part from the parent process's open file: its presence isn't this process's."""
        self.close(settle=False)
        self._open()

    def close(self, *, settle: bool = True) -> None:
        """Let go of the file, and of every lock on it."""
        if self._ring is not None and settle:
            self._ring.settle()
        self.changes = NoChanges()
        self.head = _IN_COMPANY
        self._ring = None
        if self._mapped is not None:
            # By hand, since whatever refers to the ring still, such as an error's traceback, would hold the file, and its room.
            self._mapped.close()
            self._mapped = None
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            self._set_calls()
            # It is closed even so, and the log is worth nothing to who comes when all have closed the store.
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.contextmanager
def present(path: str) -> Iterator[None]:
    """Run the block while no other process is replacing the store's file, where the companion at ``path`` is there already."""
    try:
        # Not blocking, so that a pipe in the companion's place holds nobody up.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Nobody has the store open, or what is wrong with the companion will be said when it is opened for good.
        yield
        return
    try:
        with translating_refusals(path):
            _be_present(file, path)
        yield
    finally:
        with contextlib.suppress(OSError):
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


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _locking(descriptor: int, kind: int, byte: int, span: int) -> Callable[[], object]:
    """``_set_lock`` without waiting, ready to be called."""
    if _HAS_FILE_LOCKS:
        return partial(fcntl.fcntl, descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, span, 0))
    how = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
    return partial(fcntl.lockf, descriptor, how, span, byte)


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
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    except OSError:
        return False
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _lease_byte(binding: bytes) -> int:
    return _LEASE_BYTES + xxh3_64_intdigest(binding) % _LEASE_SPAN
