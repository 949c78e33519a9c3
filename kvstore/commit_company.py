"""Writers in company: those that arrive while a commit is under way wait, and share the next one.

A durable commit costs the same two flushes for one write as for a hundred. So whoever gets the turn commits for
everybody who is waiting. Where commits are flushed and threads came in company before, the first of the next ones waits
a moment for the others, and the last commits for all: it is awake already. What nobody looks after is left to the
*courier*, a thread of its own, which starts when it is first needed; so is whatever an event loop posts.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from kvstore.backends import Backend
from kvstore.commit_batch import Batches
from kvstore.commit_write import Write, settle
from kvstore.errors import StoreBusyError, StoreClosedError, TransactionError, io_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from kvstore.companion import Companion

_LOOK_SECONDS: Final = 0.05
"""How often a thread that waits for others to commit its write looks whether anybody does."""
_LINGER_SECONDS: Final = 0.002
_LINGER_STEP_SECONDS: Final = 0.0002


class Company(Batches):
    """The writes that wait, and who commits them: the other base of ``Committer``."""

    def __init__(self, backend: Backend, companion: Companion) -> None:
        super().__init__(backend, companion)
        self._lingers = backend.flushes
        self._reset_company()

    def _reset_company(self) -> None:
        """Nobody waits, and there is no courier."""
        self._waiting: deque[Write] = deque()
        self._posted: deque[Write] = deque()
        self._company = 1
        """So many came together lately."""
        self._courier: threading.Thread | None = None
        self._starting = threading.Lock()
        self._ending = False
        # Locked until the courier is called.
        self._call = threading.Lock()
        self._call.acquire()

    # -- threads -----------------------------------------------------------------------------------------------------

    def _submit(self, write: Write) -> Any:
        """Commit ``write`` together with whatever else is waiting."""
        deadline = None if write.timeout is None else time.monotonic() + write.timeout
        waiting = self._waiting
        try:
            waiting.append(write)
            while not write.done:
                # Only one goes for the turn. Were the others to queue for it, each would find its write done when at last
                # he has it, and could not come with his next one before.
                if not self._turn.locked() and len(waiting) >= self._company:
                    self._take_turn(write)
                elif not (self._claimed or self._turn.locked()) or not (
                    write.wait(_LOOK_SECONDS) or self._turn.locked()
                ):
                    self._lead(write)
                elif deadline is not None and time.monotonic() > deadline and not write.done:
                    self._refuse_late(write)
        except BaseException:
            self._take_back(write)
            raise
        if write.error is not None:
            raise write.error
        return write.result

    def _take_back(self, write: Write) -> None:
        """See to it that an interrupted write is not committed after its caller was told.

        A thread that has it in a batch has it done, or puts it back, before it gives up the turn.
        """
        for _ in range(2):
            with contextlib.suppress(ValueError):
                self._waiting.remove(write)
                return
            if write.done:
                return
            with self._turn:
                pass

    def _refuse_late(self, write: Write) -> None:
        """Withdraw a write that has waited for its time, unless it is being committed already."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(write)
            write.finish(StoreBusyError(f"another write has been under way for {write.timeout} seconds; try again"))

    def _lead(self, write: Write) -> None:
        """Have all commit who are still coming: by the last of them, or in the end by this thread."""
        self._claimed = True
        try:
            self._linger(write.wait, self._waiting)
        finally:
            self._claimed = False
        if not (write.done or self._turn.locked()):
            self._take_turn(write)

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

    def _linger(self, wait: Callable[[float], object], *queues: deque[Write]) -> None:
        """Where writers came in company before, wait as long as they keep coming: each that misses this commit waits for
        the whole of it.
        """
        before, here = -1, sum(map(len, queues))
        if here >= self._company:
            return
        deadline = time.monotonic() + _LINGER_SECONDS
        while before < here < self._company and time.monotonic() < deadline:
            wait(_LINGER_STEP_SECONDS)
            before, here = here, sum(map(len, queues))

    # -- event loops -------------------------------------------------------------------------------------------------

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
        raise StoreClosedError(f"{self._identity}: the store has been closed; open it again")

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
        waiting, posted = self._waiting, self._posted
        while not self._ending or waiting or posted:
            self._call.acquire()
            while waiting or posted:
                self._linger(time.sleep, waiting, posted)
                with self._turn:
                    # One failing batch has told its writers; the next one is another matter.
                    with contextlib.suppress(BaseException):
                        self._commit_waiting(waiting, posted)
        # Where an interrupt came as one was started, there are two: each has to hear that it is over.
        self._call_courier()

    # -- all that wait -----------------------------------------------------------------------------------------------

    def _commit_waiting(self, *queues: deque[Write]) -> None:
        """Commit everything that waits in the queues. The caller has the turn."""
        batch: list[Write] = []
        commits: list[int] = []
        try:
            self._holder = threading.get_ident()
            for queue in queues:
                for _ in range(len(queue)):
                    batch.append(queue.popleft())
            if not batch:
                return
            if self._lingers:
                self._company = max(len(batch), self._company * 15 // 16)
            self._is_plain = False
            companion = self._companion
            # The first to write, or to go on after a failure, must become a writer besides.
            locking = self._in_company() or not companion.changes.writer
            try:
                if not locking or companion.try_lock_writing() or self._lock_writing(batch):
                    self._commit_batch(batch, commits)
            finally:
                if locking:
                    try:
                        companion.unlock_writing()
                    except OSError as error:
                        raise io_error(error, self._identity) from error
        except Exception as error:
            settle(batch, error)
        except BaseException:
            # In the main thread, which alone hears signals, it is meant for that alone: the others' writes wait for a turn of
            # their own, unless they may be in the file. Elsewhere one of the writes has raised it, and would do so again.
            if commits or threading.current_thread() is not threading.main_thread():
                settle(batch, TransactionError("the commit was interrupted; read to see whether it took place"))
            else:
                self._waiting.extendleft(write for write in reversed(batch) if not write.done)
            raise
        else:
            if self._lingers:
                # Those who came meanwhile are of the company, too: the next commit is for all. By its batches alone one that
                # had once fallen apart would go on in two halves, each flushing while the other comes.
                self._company = max(self._company, len(batch) + sum(map(len, queues)))
            settle(batch)
            # Those who are told wake up meanwhile.
            for tier in {write.tier for write in batch}:
                tier.take_in()
        finally:
            self._holder = None

    def _lock_writing(self, batch: list[Write]) -> bool:
        """Wait for other processes as long as the writes may; whether any of them is left to be done."""
        begin = time.monotonic()
        while batch:
            timeouts = [write.timeout for write in batch if write.timeout is not None]
            timeout = min(timeouts) if timeouts else None
            left = None if timeout is None else max(0.0, begin + timeout - time.monotonic())
            try:
                self._companion.lock_writing(left, timeout)
            except StoreBusyError as error:
                late = [write for write in batch if write.timeout == timeout]
                settle(late, error)
                batch[:] = [write for write in batch if not write.done]
            else:
                break
        return bool(batch)
