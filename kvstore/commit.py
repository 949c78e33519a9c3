"""Group commit: writers that arrive while a commit is under way share the next one.

A durable commit costs the same two flushes for one write as for a hundred. So whoever gets the turn commits for
everybody who is waiting.

A thread that finds nobody at it commits in itself. What comes meanwhile is left to the *courier*, a thread of the
committer's own, which starts when it is first needed; so is whatever an event loop posts.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator

from kvstore.backends import Backend, Writing
from kvstore.commit_batch import Batches
from kvstore.commit_write import Tier, Write, settle
from kvstore.errors import (
    RoomPendingError,
    StoreBusyError,
    StoreClosedError,
    TransactionError,
    io_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from kvstore.companion import Companion


_LOOK_SECONDS: Final = 0.05
"""How often a thread that waits for others to commit its write looks whether anybody does."""
_LINGER_SECONDS: Final = 0.002
_LINGER_STEP_SECONDS: Final = 0.00005

_PURGE_LOOKS: Final = 16
"""Where no record expires, as far as is known, one commit of so many looks whether another process has stored one that does."""


class Committer(Batches):
    """The one place of a process where transactions on a store are committed."""

    def __init__(self, backend: Backend, companion: Companion) -> None:
        super().__init__(backend, companion)
        self._bounded = backend.bounded
        self._looked = 0
        self._puts = 0
        self.start_over_in_child()

    def start_over_in_child(self, *, torn: bool = False) -> None:
        """Begin with nothing: the threads that waited, and the one that had the turn, are the parent's.

        ``torn``: the parent was inside a transaction, so this process can't write at all.
        """
        self._reset_turn(torn=torn)
        self._is_plain = False
        self._waiting: deque[Write] = deque()
        self._posted: deque[Write] = deque()
        self._company = 1
        self._courier: threading.Thread | None = None
        self._starting = threading.Lock()
        self._ending = False
        # Locked until the courier is called.
        self._call = threading.Lock()
        self._call.acquire()

    # -- writes ------------------------------------------------------------------------------------------------------

    def commit(
        self,
        apply: Callable[[Writing], Any],
        tier: Tier,
        purge: Callable[[Writing], bool] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Do it in a transaction, commit, and give its result or raise its error; the parameters are those of ``Write``."""
        me = threading.get_ident()
        if self._torn or self._holder == me:
            self.refuse_own_turn()
        if self._ending:
            self._refuse_closed()
        if self._claimed or self._waiting or self._company > 1 or self._turn.locked():
            return self._submit(Write(apply, tier, purge, timeout))

        # Alone, as nearly always: nothing of what follows is about others.
        def work(txn: Writing) -> Any:
            result = apply(txn)
            if txn.changed:
                if self._bounded:
                    txn.check_size()
                # A record that expires makes for two changes, its entry in the index being one.
                may_expire = self._expiring or len(txn.changed) > 1 or txn.id - self._looked >= _PURGE_LOOKS
                if purge is not None and may_expire:
                    self._expiring, self._looked = purge(txn), txn.id
                self._write_through(txn, (tier,))
                self._is_plain = not (self._bounded or self._expiring)
            return result

        companion = self._companion
        self._claimed = True
        try:
            with self._turn:
                try:
                    self._holder = me
                    if not companion.try_lock_writing():
                        companion.lock_writing(timeout)
                    return self._backend.write(work)
                except RoomPendingError:
                    return self._write_with_room(work)
                finally:
                    # First what needs no call: an interrupt comes when a call returns.
                    self._holder = None
                    try:
                        companion.unlock_writing()
                    except OSError as error:
                        raise io_error(error, self._identity) from error
        finally:
            self._claimed = False
            if self._waiting:
                self._pass_on()

    def put(
        self,
        key: bytes,
        record: bytes,
        written: Any,
        tier: Tier,
        timeout: float | None,
    ) -> bool:
        """Commit one record of the default space. ``written`` is what ``tier`` may know of it, its key first; None for nothing.

        What ``commit`` does, in a third of its calls: the most common write of all. Where anything stands in the way nothing
        is done, and the result is False.
        """
        me = threading.get_ident()
        self._puts += 1
        if (
            self._puts % _PURGE_LOOKS == 0
            or self._holder == me
            or self._claimed
            or self._waiting
            or self._turn.locked()
            or not self._is_plain
        ):
            return False
        companion = self._companion
        changes = companion.changes
        # Where no other process has opened the store nobody asks for the write lock, nor for what a writer has left that died. Of
        # one that comes this instant, LMDB's own lock keeps its writes apart from this one.
        in_company = companion.head[companion.company_at]
        self._claimed = True
        try:
            with self._turn:
                try:
                    self._holder = me
                    if in_company:
                        try:
                            companion.take_write_byte()
                        except OSError:
                            companion.lock_writing(timeout)
                    try:
                        # What a reader brings in after this look is what the file has until the commit.
                        if written is not None and written[0] in tier.default:
                            tier.forget_one(written[0])
                        commit = self._backend.put(key, record, changes.publish_one)
                    except BaseException:
                        # First what needs no call: an interrupt comes when a call returns.
                        changes.writer = 0
                        try:  # noqa: SIM105  # making a suppress() is a call, too
                            companion.end_writer()
                        except OSError:
                            pass
                        self._is_plain = False
                        tier.abandon({("", key): None})
                        raise
                    if in_company:
                        changes.settle_one(commit)
                    if written is not None:
                        tier.wrote(commit, written)
                    return True
                finally:
                    self._holder = None
                    if in_company:
                        try:
                            companion.unlock_writing()
                        except OSError as error:
                            raise io_error(error, self._identity) from error
        finally:
            self._claimed = False
            if self._waiting:
                self._pass_on()

    def _submit(self, write: Write) -> Any:
        """Commit ``write`` together with whatever else is waiting."""
        deadline = None if write.timeout is None else time.monotonic() + write.timeout
        try:
            self._waiting.append(write)
            while not write.done:
                # Only one goes for the turn. Were the others to queue for it, each would find its write done when at last
                # he has it, and could not come with his next one before.
                taken = self._turn.locked() or self._claimed
                if not taken or not (write.wait(_LOOK_SECONDS) or self._turn.locked()):
                    self._take_turn(write)
                elif deadline is not None and time.monotonic() > deadline and not write.done:
                    self._refuse_late(write)
        except BaseException:
            # An interrupted write must not be committed after its caller was told.
            with contextlib.suppress(ValueError):
                self._waiting.remove(write)
            raise
        if write.error is not None:
            raise write.error
        return write.result

    def _refuse_late(self, write: Write) -> None:
        """Withdraw a write that has waited for its time, unless it is being committed already."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(write)
            write.finish(StoreBusyError(f"another write has been under way for {write.timeout} seconds; try again"))

    def _take_turn(self, write: Write) -> None:
        self._claimed = True
        try:
            with self._turn:
                if not write.done:
                    self._commit_waiting(self._waiting)
                    if not write.done:
                        raise TransactionError("a commit was interrupted; read to see whether it took place")
        finally:
            self._claimed = False
        self._pass_on()

    def post(self, write: Write) -> None:
        """Have the courier commit ``write``; its ``on_done`` tells when the outcome is settled."""
        if self._torn:
            self.refuse_own_turn()
        if self._courier is None:
            self._start_courier()
        self._posted.append(write)
        if self._ending and self.withdraw(write):
            self._refuse_closed()
        if self._call.locked():
            self._call_courier()

    def withdraw(self, write: Write) -> bool:
        """Take back what was posted; whether that was in time. Otherwise it is being committed, or is done."""
        try:
            self._posted.remove(write)
        except ValueError:
            return False
        return True

    def close(self) -> None:
        """Take nothing more, commit what was posted, and end the courier."""
        with self._starting:
            self._ending = True
            self._is_plain = False
            courier = self._courier
        if courier is not None:
            self._call_courier()
            if courier is not threading.current_thread():
                courier.join()

    def _refuse_closed(self) -> None:
        raise StoreClosedError(f"{self._backend.identity}: the store has been closed; open it again")

    # -- the courier -------------------------------------------------------------------------------------------------

    def _start_courier(self) -> None:
        with self._starting:
            if self._courier is None and not self._ending:
                courier = threading.Thread(target=self._carry, name="kvstore-commit", daemon=True)
                courier.start()
                self._courier = courier

    def _call_courier(self) -> None:
        # Of two who call at once, one finds it done.
        if self._call.locked():
            with contextlib.suppress(RuntimeError):
                self._call.release()

    def _pass_on(self) -> None:
        """Leave what waits to the courier; the turn has just become free. A thread whose write it is looks after it where
        this doesn't come about.
        """
        if self._waiting:
            with contextlib.suppress(RuntimeError):
                if self._courier is None:
                    self._start_courier()
                self._call_courier()

    def _carry(self) -> None:
        # What is posted is taken by this thread alone, whom no signal reaches.
        while not self._ending or self._waiting or self._posted:
            self._call.acquire()
            while self._waiting or self._posted:
                with self._turn:
                    # One failing batch has told its writers; the next one is another matter.
                    with contextlib.suppress(BaseException):
                        self._commit_waiting(self._waiting, self._posted)

    # -- a batch -----------------------------------------------------------------------------------------------------

    def _commit_waiting(self, *queues: deque[Write]) -> None:
        """Commit everything that waits in the queues. The caller has the turn."""
        batch: list[Write] = []
        commits: list[int] = []
        try:
            self._holder = threading.get_ident()
            if self._company > 1:
                self._linger(queues)
            for queue in queues:
                for _ in range(len(queue)):
                    batch.append(queue.popleft())
            self._company = max(len(batch), self._company * 15 // 16)
            self._is_plain = False
            try:
                if self._companion.try_lock_writing() or self._lock_writing(batch):
                    self._commit_batch(batch, commits)
            finally:
                try:
                    self._companion.unlock_writing()
                except OSError as error:
                    raise io_error(error, self._identity) from error
        except Exception as error:
            settle(batch, error)
        except BaseException:
            # Meant for this thread alone. The others' writes wait for a turn of their own, unless they may be in the file.
            if commits:
                settle(batch, TransactionError("the commit was interrupted; read to see whether it took place"))
            else:
                self._waiting.extendleft(write for write in reversed(batch) if not write.done)
            raise
        else:
            settle(batch)
        finally:
            self._holder = None

    def _linger(self, queues: Collection[deque[Write]]) -> None:
        """Where writers came in company before, wait as long as they keep coming: each that misses this commit waits for
        the whole of it.
        """
        deadline = time.monotonic() + _LINGER_SECONDS
        before, here = -1, sum(map(len, queues))
        while before < here < self._company and time.monotonic() < deadline:
            time.sleep(_LINGER_STEP_SECONDS)
            before, here = here, sum(map(len, queues))

    def _lock_writing(self, batch: list[Write]) -> bool:
        """Wait for other processes as long as the writes may; whether any of them is left to be done."""
        while batch:
            timeouts = [write.timeout for write in batch if write.timeout is not None]
            timeout = min(timeouts) if timeouts else None
            try:
                self._companion.lock_writing(timeout)
            except StoreBusyError as error:
                late = [write for write in batch if write.timeout == timeout]
                settle(late, error)
                batch[:] = [write for write in batch if not write.done]
            else:
                break
        return bool(batch)

    # -- transactions ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, tier: Tier, timeout: float | None = None) -> Iterator[Writing]:
        """A transaction of the caller's own, in his thread: commits at the end of the block, rolls back on an exception."""
        with self.turn_to_write(timeout):
            try:
                with self._backend.transaction() as txn:
                    yield txn
                    txn.check_size()
                    self._write_through(txn, (tier,))
            except RoomPendingError:
                # Too late for this one, and in time for the next.
                self._free_pending_pages()
                raise
