"""A batch of writes as one transaction: each done or refused by itself, the memory tiers told in the order of a write-through."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from itertools import groupby
from operator import attrgetter

from kvstore.backends import Backend, Writing
from kvstore.commit_turn import Turn
from kvstore.commit_write import Tier, Write
from kvstore.errors import RoomPendingError, StoreFullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from kvstore.companion import Companion

_APPLY: Final = attrgetter("apply")
_PURGE: Final = attrgetter("purge")
_COMMITS_UNTIL_FREE: Final = 2


class Batches(Turn):
    """What whoever has the turn does with it: the base of ``Committer``, which says for whom.

    A batch is tried as a whole; where one of its writes fails, it is done anew, each write in a nested transaction of its own,
    so that one's error is its own.
    """

    def __init__(self, backend: Backend, companion: Companion) -> None:
        super().__init__(companion, backend.identity)
        self._backend = backend
        self._expiring = True
        self._is_plain = False
        """Whether a commit of one record needs nothing that ``Committer.put`` doesn't do; found out by every other commit."""
        self.shared = False
        """Whether another handle of this process has the store open, so that there is another tier to tell of changes."""

    def _in_company(self) -> bool:
        """Whether another process may have opened the store. Where none has, up to this instant, nobody asks for the write lock,
        nor for what a writer has left that died; of one that comes now, LMDB's own lock keeps its writes apart from this one.
        """
        companion = self._companion
        return companion.head[companion.company_at] != 0

    def _commit_batch(self, batch: list[Write], commits: list[int]) -> None:
        """Commit them together where every one of them can be done, and otherwise each in a nested transaction of its own."""
        try:
            self._write(batch, commits, _run_together)
        except _ApartError:
            self._write(batch, commits, _run_each)
        # Those for whom there was no room beside the others, one after another.
        for write in [write for write in batch if isinstance(write.error, RoomPendingError) and not write.done]:
            write.error = None
            try:
                self._commit_batch([write], commits)
            except Exception as error:
                write.finish(error)

    def _write(self, batch: list[Write], commits: list[int], run: Callable[[list[Write], Writing], None]) -> None:
        def work(txn: Writing) -> None:
            run(batch, txn)
            purge = next(filter(None, map(_PURGE, batch)), None)
            if txn.changed and purge is not None:
                self._expiring = purge(txn)
            self._write_through(txn, {write.tier for write in batch}, commits)

        try:
            self._backend.write(work)
        except RoomPendingError:
            self._write_with_room(work)

    def _write_with_room(self, work: Callable[[Writing], Any]) -> Any:
        """Do the work once more, now that the pages that it needed are free."""
        self._free_pending_pages()
        try:
            return self._backend.write(work)
        except RoomPendingError as error:
            raise StoreFullError(str(error)) from error

    def _free_pending_pages(self) -> None:
        """Let two commits pass, after which a transaction may use what the last one has freed."""
        for _ in range(_COMMITS_UNTIL_FREE):
            with contextlib.suppress(StoreFullError):
                self._backend.write(self._commit_nothing)

    def _commit_nothing(self, txn: Writing) -> None:
        txn.touch()
        changes = self._companion.changes
        try:
            changes.publish(txn.id, {})
            txn.commit()
        except BaseException:
            # As in `_write_through`.
            changes.writer = 0
            try:  # noqa: SIM105
                self._companion.end_writer()
            except OSError:
                pass
            raise

    # -- the order of a write-through --------------------------------------------------------------------------------

    def _write_through(self, txn: Writing, tiers: Collection[Tier], commits: list[int] | None = None) -> None:
        """Forget in memory, commit to the file, then remember in memory. ``commits`` gets the id before the file may have
        it.
        """
        changed = txn.changed
        if not changed:
            return
        commit, changes, in_company = txn.id, self._companion.changes, self._in_company()
        try:
            for tier in tiers:
                tier.forget(changed)
            # Where there is no other to tell, this process's readers are: who comes this instant, with hardly anything in memory,
            # forgets all.
            if in_company or self.shared:
                changes.publish(commit, changed)
            else:
                changes.note(commit, changed)
            if commits is not None:
                commits.append(commit)
            txn.commit()
        except BaseException:
            # First what needs no call: an interrupt comes when a call returns.
            changes.writer = 0
            try:  # noqa: SIM105  # making a suppress() is a call, too
                self._companion.end_writer()
            except OSError:
                pass
            self._is_plain = False
            for tier in tiers:
                tier.abandon(changed)
            raise
        if in_company:
            changes.settle_one(commit)
        for tier in tiers:
            tier.wrote(commit, changed)
        # The values that are in it are the tiers' to keep.
        changes.note(0, ())


class _ApartError(Exception):
    """A batch can't be done as a whole."""


def _run_together(batch: list[Write], txn: Writing) -> None:
    """Do them all, records for the same place in one call. Raises ``_ApartError`` where one of several fails: the transaction
    must be given up then. A nested one, which would spare that, costs every batch as much as a few writes.
    """
    if len(batch) == 1:
        batch[0].run(txn)
        txn.check_size()
        return
    try:
        for apply, group in groupby(batch, _APPLY):
            writes = [*group]
            if writes[0].record is None:
                for write in writes:
                    write.result = apply(txn)
            else:
                apply(txn, [write.record for write in writes])
        txn.check_size()
    except Exception as error:
        raise _ApartError from error


def _run_each(batch: list[Write], txn: Writing) -> None:
    for write in batch:
        # One that was refused stays so where the batch must be done once more, even if it could be done by now.
        if not write.done:
            _run_alone(write, txn)


def _run_alone(write: Write, txn: Writing) -> None:
    try:
        with txn.nested() as child:
            write.run(child)
            child.check_size()
    except RoomPendingError as error:
        write.error = error
    except Exception as error:
        write.finish(error)
