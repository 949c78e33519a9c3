"""Group commit: the one place of a process where transactions on a store are committed.

A thread that finds nobody at it commits in itself; everybody else joins the company of those who wait.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from kvstore.backends import Backend, Writing
from kvstore.commit_company import Company
from kvstore.commit_write import Tier, Write
from kvstore.errors import RoomPendingError, io_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from kvstore.companion import Companion

_PURGE_LOOKS: Final = 16
"""In the company of other processes, where no record expires as far as is known, one commit of so many looks whether one of
them has stored one that does."""


class Committer(Company):
    """Commits for one process: writes, alone or in company, and transactions."""

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
        self._reset_company()
        self._is_plain = False

    # -- writes ------------------------------------------------------------------------------------------------------

    def commit(
        self,
        apply: Callable[..., Any],
        tier: Tier,
        purge: Callable[[Writing], bool] | None = None,
        timeout: float | None = None,
        record: Any = None,
    ) -> Any:
        """Do it in a transaction, commit, and give its result or raise its error; the parameters are those of ``Write``."""
        me = threading.get_ident()
        if self._torn or self._holder == me:
            self.refuse_own_turn()
        if self._ending:
            self._refuse_closed()
        if self._claimed or self._waiting or self._company > 1 or self._turn.locked():
            return self._submit(Write(apply, tier, purge, timeout, record))

        # Alone, as nearly always: nothing of what follows is about others.
        def work(txn: Writing) -> Any:
            result = apply(txn) if record is None else apply(txn, [record])
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
        # The first to write, or to go on after a failure, must become a writer besides.
        locking = self._in_company() or not companion.changes.writer
        self._claimed = True
        try:
            with self._turn:
                try:
                    self._holder = me
                    if locking and not companion.try_lock_writing():
                        companion.lock_writing(timeout)
                    try:
                        result = self._backend.write(work)
                    except RoomPendingError:
                        result = self._write_with_room(work)
                    tier.take_in()
                    return result
                finally:
                    # First what needs no call: an interrupt comes when a call returns.
                    self._holder = None
                    if locking:
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
        note: Any,
        tier: Tier,
        timeout: float | None,
    ) -> bool:
        """Commit one record of the default space. ``note`` is what ``tier`` may know of it; None for nothing.

        What ``commit`` does, in a third of its calls: the most common write of all. Where anything stands in the way nothing
        is done, and the result is False.
        """
        companion = self._companion
        # As `_in_company`, without the call.
        in_company = companion.head[companion.company_at]
        if in_company:
            self._puts += 1
            if self._puts % _PURGE_LOOKS == 0:
                return False
        me = threading.get_ident()
        if self._holder == me or self._claimed or self._waiting or self._turn.locked() or not self._is_plain:
            return False
        changes = companion.changes
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
                        if note is not None and note[1] in tier.default:
                            tier.forget_one(note[1])
                        announce = changes.publish_one if in_company or self.shared else changes.note_one
                        commit = self._backend.put(key, record, announce)
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
                    if note is not None:
                        tier.wrote_one(commit, key, note)
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

    # -- transactions ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, tier: Tier, timeout: float | None = None) -> Iterator[Writing]:
        """A transaction of the caller's own, in his thread: commits at the end of the block, rolls back on an exception."""
        with self.turn_to_write(timeout):
            try:
                with self._backend.transaction() as txn:
                    yield txn
                    txn.check_size()
                    # It may have stored the first record that expires.
                    self._is_plain, self._expiring = False, True
                    self._write_through(txn, (tier,))
                tier.take_in()
            except RoomPendingError:
                # Too late for this one, and in time for the next.
                self._free_pending_pages()
                raise
