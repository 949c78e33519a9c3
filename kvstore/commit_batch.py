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

_TOGETHER: Final = attrgetter("together")
_COMMITS_UNTIL_FREE: Final = 2


class Batches(Turn):
    """What whoever has the turn does with it: the base of ``Committer``, which says for whom.

    A batch is tried as a whole; where one of its writes fails, each is done in a nested transaction of its own, so that one's
    error is its own.
    """

    def __init__(self, backend: Backend, companion: Companion) -> None:
        super().__init__(companion, backend.identity)
        self._backend = backend
        self._expiring = True
        self._is_plain = False
        """Whether a commit of one record needs nothing that ``Committer.put`` doesn't do; found out by every other commit."""

    def _commit_batch(self, batch: list[Write], commits: list[int]) -> None:
        def work(txn: Writing) -> None:
            self._commit(txn, batch, commits)

        try:
            self._backend.write(work)
        except RoomPendingError:
            self._write_with_room(work)
        # Those for whom there was no room beside the others, one after another.
        for write in [write for write in batch if isinstance(write.error, RoomPendingError) and not write.done]:
            write.error = None
            try:
                self._commit_batch([write], commits)
            except Exception as error:
                write.finish(error)

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

    def _commit(self, txn: Writing, batch: list[Write], commits: list[int]) -> None:
        first = batch[0]
        if len(batch) == 1:
            first.result = first.apply(txn)
            txn.check_size()
        elif not _run_together(batch, txn):
            for write in batch:
                _run_alone(write, txn)
        purge = first.purge
        if txn.changed and purge is not None:
            self._expiring = purge(txn)
        self._write_through(txn, {write.tier for write in batch}, commits)

    # -- the order of a write-through --------------------------------------------------------------------------------

    def _write_through(self, txn: Writing, tiers: Collection[Tier], commits: list[int] | None = None) -> None:
        """Forget in memory, commit to the file, then remember in memory. ``commits`` gets the id before the file may have
        it.
        """
        changed = txn.changed
        if not changed:
            return
        commit, changes = txn.id, self._companion.changes
        try:
            for tier in tiers:
                tier.forget(changed)
            changes.publish(commit, changed)
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
        changes.settle_one(commit)
        for tier in tiers:
            tier.committed(commit, changed)


def _run_together(batch: Collection[Write], txn: Writing) -> bool:
    """Do them all, or none; whether it went well."""
    try:
        with txn.nested() as child:
            for together, writes in groupby(batch, _TOGETHER):
                if together is None:
                    for write in writes:
                        write.result = write.apply(child)
                else:
                    together(child, [*writes])
            child.check_size()
    except Exception:
        return False
    return True


def _run_alone(write: Write, txn: Writing) -> None:
    try:
        with txn.nested() as child:
            write.result = write.apply(child)
            child.check_size()
    except RoomPendingError as error:
        write.error = error
    except Exception as error:
        write.finish(error)
