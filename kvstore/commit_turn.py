"""Whose turn it is to write: one thread of a process at a time, and one process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from kvstore.errors import StoreBusyError, TransactionError, io_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvstore.companion import Companion


class Turn:
    """The right to write, of whatever thread of this process: the base of what commits, which hands it on."""

    guest: object = None
    """Whoever is inside a transaction by the hands of a thread: a task of an event loop."""

    def __init__(self, companion: Companion, identity: str) -> None:
        self._companion = companion
        self._identity = identity

    def _reset_turn(self, *, torn: bool) -> None:
        """Nobody has the turn. ``torn``: and nobody can have it in this process, the child of a fork inside a transaction."""
        self._torn = torn
        self._turn = threading.Lock()
        self._claimed = False
        """Whether a thread is about to take the turn, so that no other needs to."""
        self._holder: int | None = None
        self.guest = None

    def _pass_on(self) -> None:
        """The turn has become free: have whatever waits committed."""
        raise NotImplementedError

    @contextlib.contextmanager
    def turn_to_write(self, timeout: float | None) -> Iterator[None]:
        """Hold the right to commit, before every other process too.

        Raises ``StoreBusyError`` after ``timeout`` seconds, whether they went to this process's threads or to others.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.turn() if timeout is None else self.turn_within(timeout):
            with self._write_lock(None if deadline is None else max(0.0, deadline - time.monotonic()), timeout):
                yield

    @contextlib.contextmanager
    def turn_unless_another_process_writes(self) -> Iterator[None]:
        """As ``turn_to_write``: waits for this process's writers, and raises ``StoreBusyError`` where another's is at it."""
        with self.turn(), self._write_lock(0):
            yield

    @contextlib.contextmanager
    def _write_lock(self, timeout: float | None, stated: float | None = None) -> Iterator[None]:
        try:
            self._companion.lock_writing(timeout, stated)
            yield
        finally:
            try:
                # Still the first call: nothing comes between.
                self._companion.unlock_writing()
            except OSError as error:
                raise io_error(error, self._identity) from error

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the right to commit, with nothing to commit."""
        self.refuse_own_turn()
        try:
            with self._turn:
                try:
                    self._holder = threading.get_ident()
                    yield
                finally:
                    self._holder = None
        finally:
            self._pass_on()

    @contextlib.contextmanager
    def turn_within(self, seconds: float) -> Iterator[None]:
        """As ``turn``; raises ``StoreBusyError`` where it isn't had within the time."""
        self.refuse_own_turn()
        # The child of a fork, which comes in between, has another one when this ends.
        turn = self._turn
        had: list[bool] = []
        try:
            # Had, and known to be, in one call into C: an interrupt comes when a call returns, before what would note its result.
            had.extend(map(turn.acquire, (True,), (seconds,)))
            if True not in had:
                raise StoreBusyError("another thread of this process is inside a transaction")
            self._holder = threading.get_ident()
            yield
        finally:
            if True in had:
                self._holder = None
                turn.release()
                self._pass_on()

    def refuse_own_turn(self) -> None:
        """Raise ``TransactionError`` where the calling thread has the turn, so that waiting for it would be for ever."""
        if self._torn:
            raise TransactionError(
                "the child of a fork inside a transaction can't use the store; fork outside of transactions, or open the "
                "store after forking"
            )
        if self._holder == threading.get_ident():
            raise TransactionError(
                "this thread is inside a transaction of this store; use the transaction's own methods until it ends"
            )
