"""One open store of this process: its backend, its companion file, its committer; shared by every handle of it.

An LMDB file must be open once in a process, and notebooks open theirs again and again. So a second ``open`` of the same
file gets the engine of the first, and the last handle to close closes the file.

A forked child must not touch what the parent has open. It gets locks of its own at once, so that no thread that isn't
there any more holds one, and opens the file anew when it first reads; what memory knows, it keeps.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator

from kvstore.backends import Backend, Options, companion_of, connect, identify
from kvstore.errors import KvstoreError, StoreBusyError, StoreClosedError, TransactionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from typing import Any, NoReturn, Protocol

    from kvstore.companion import Companion
    from kvstore.once import Flights
else:
    Protocol = object

_engines: dict[str, Engine] = {}
_lock = threading.RLock()  # re-entered where the garbage collector closes a dropped store meanwhile

_FORK_SECONDS = 30.0


class Tier(Protocol):
    """The part of a memory tier that what happens to its whole process concerns; see ``MemoryTier``."""

    def held(self) -> AbstractContextManager[Any]: ...

    def catch_up(self) -> None: ...

    def move_to(self, commits: tuple[Sequence[int], Sequence[int]]) -> None: ...

    def start_over_in_child(self) -> None: ...

    def start_over_with(self, commits: tuple[Sequence[int], Sequence[int]]) -> None: ...


class Engine:
    """What the handles of one store share. Made by ``acquire``, given back by ``release``."""

    def __init__(self, identity: str, options: Options) -> None:
        # With the first store, as the backend and the companion.
        from kvstore.commit import Committer

        self.identity = identity
        self.options = options
        self.backend, self.companion = _open_present(identity, options)
        self.backend.tell_who_writes(self.companion.others_write)
        self.committer = Committer(self.backend, self.companion)
        self._flights: Flights | None = None
        self._tiers: tuple[weakref.ref[Tier], ...] = ()
        self.handles = 0
        self._torn = False

    @property
    def flights(self) -> Flights:
        """The missing values that this process is computing; imported and made when the first one is asked for."""
        if self._flights is None:
            from kvstore.once import Flights

            with _lock:
                if self._flights is None:
                    self._flights = Flights(self.companion)
        return self._flights

    @classmethod
    def acquire(cls, location: str | os.PathLike[str], options: Options) -> Engine:
        """The engine of what is at ``location``, opened where this process hasn't.

        Raises ``StoreBusyError`` where the process has it open with options that can't be shared.
        """
        with _lock:
            # Here, as it may import the backend: with the lock held, no fork comes meanwhile.
            identity = identify(location)
            engine = _engines.get(identity)
            if engine is None:
                engine = _engines[identity] = cls(identity, options)
            else:
                engine.require(options)
            engine._count(1)
            return engine

    def add(self, tier: Tier) -> None:
        """Tell the tier of what concerns the whole process, for as long as somebody holds it."""
        with _lock:
            # Replaced, never changed: others go through it without the lock.
            self._tiers = (*(known for known in self._tiers if known() is not None), weakref.ref(tier))
        # The file may have been replaced since the tier was made, and those told that were known then.
        tier.start_over_with(self.backend.commits)

    def tiers(self) -> list[Tier]:
        """The memory tiers of its handles."""
        return [tier for known in self._tiers if (tier := known()) is not None]

    def keep(self) -> None:
        """One handle more, for who uses the engine beside one; given back by ``release``."""
        with _lock:
            self._count(1)

    def _count(self, step: int) -> None:
        self.handles += step
        self.committer.shared = self.handles > 1

    def require(self, wanted: Options) -> None:
        """Refuse what a handle can't share with the ones that are open."""
        backend = self.backend
        if backend.replaced():
            raise StoreBusyError(
                f"{self.identity} was replaced by another file while this process has it open; close the older handles first"
            )
        if backend.readonly and not wanted.readonly:
            raise StoreBusyError(f"{self.identity} is open in this process with readonly=True; close that handle first")
        for name in ("durability", "max_size"):
            mine, theirs = getattr(self.options, name), getattr(wanted, name)
            if mine != theirs and not wanted.readonly:
                raise StoreBusyError(
                    f"{self.identity} is open in this process with {name}={mine!r}; "
                    f"close that handle first, or open this one with the same {name}"
                )

    def release(self) -> None:
        """One handle less; the last one closes the file."""
        try:
            if self.handles == 1 and not self._torn:
                # Whoever is inside a transaction may open another store in it, so it isn't waited for with the lock held.
                with contextlib.suppress(TransactionError), self.committer.turn():
                    pass
        finally:
            self._release()

    def _release(self) -> None:
        with _lock:
            self._count(-1)
            if self._torn:
                # What is open is the parent's, in the middle of a transaction, and ends with this process.
                return
            if not self.handles:
                try:
                    self.committer.close()
                    # Whoever waits for his turn to write finds the store closed, not the file gone from under him.
                    with self.committer.turn():
                        try:
                            self.backend.close()
                        finally:
                            self.companion.close()
                            # Nobody is to hold on to the file: a closed handle may be kept for long.
                            for tier in self.tiers():
                                tier.move_to(self.backend.commits)
                finally:
                    del _engines[self.identity]

    def compact(self) -> None:
        """Rewrite the file without free pages, in the place of the old one; see ``Store.compact``."""
        with self.committer.turn_unless_another_process_writes(), self.companion.alone():
            # No tier is held meanwhile: a reader may wait for one in the middle of a read, and reads are waited for.
            before = self.backend.commits
            try:
                self.backend.compact()
                self.companion.follow(self.backend.inode())
                for tier in self.tiers():
                    tier.move_to(self.backend.commits)
            except BaseException:
                # A tier that was left behind would go by the old file for ever, in which nothing happens any more.
                if self.backend.commits is not before:
                    self._start_over()
                raise

    def _start_over(self) -> None:
        """Go on with whatever file is at the store's path now; while it can't be opened, reads raise what opening it does,
        and memory, which couldn't follow what others write to it, answers none.
        """
        with contextlib.suppress(KvstoreError), self.backend.read(""):
            pass
        self.companion.follow(self.backend.inode())
        for tier in self.tiers():
            with contextlib.suppress(KvstoreError):
                tier.start_over_with(self.backend.commits)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Hold every lock of this process on the store, so that a fork copies nothing half done.

        A transaction that is open for long, or in the forking thread itself, can't be waited for; the child of such a
        fork can't use the store, since it can neither end that transaction nor close the file under it.
        """
        with contextlib.ExitStack() as stack:
            self._torn = True
            with contextlib.suppress(TransactionError, StoreBusyError):
                stack.enter_context(self.committer.turn_within(_FORK_SECONDS))
                self._torn = False
            for tier in self.tiers():
                stack.enter_context(tier.held())
            yield

    @property
    def is_torn(self) -> bool:
        """Whether this process is the child of a fork inside a transaction."""
        return self._torn

    def is_whole(self) -> None:
        """Say, in the parent, that the fork is over: a transaction that it came in the middle of goes on here."""
        self._torn = False

    def start_over_in_child(self) -> None:
        """Make what the parent had open this process's own."""
        self.backend.leave_to_parent(for_good=self._torn)
        self.companion.reopen_in_child()
        self.committer.start_over_in_child(torn=self._torn)
        if self._flights is not None:
            self._flights.start_over_in_child()
        for tier in self.tiers():
            tier.start_over_in_child()
        if not self._torn and self.backend.replaced():
            # Compacted by the parent in the instant in which this process was not yet known to have it open.
            with self.backend.read():
                pass
            self.companion.follow(self.backend.inode())
            for tier in self.tiers():
                tier.start_over_with(self.backend.commits)


def _open_present(identity: str, options: Options) -> tuple[Backend, Companion]:
    """The backend and the companion, once no other process can be replacing the file any more."""
    # As the backend, with the lock held.
    from kvstore.companion import Companion, present

    while True:
        # What another process is just replacing must not even be opened: the engine's locks belong to the name, not the file.
        with present(companion_of(identity)):
            backend = connect(identity, options)
        with contextlib.ExitStack() as opened:
            opened.callback(backend.close)
            companion = Companion(backend.companion, backend.inode())
            opened.callback(companion.close)
            # Otherwise replaced between the two: what is open has no name any more.
            if not backend.replaced():
                opened.pop_all()
                return backend, companion


class ClosedEngine:
    """What a closed handle has in place of its engine."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def refuse(self, *_: object) -> NoReturn:
        """Raise ``StoreClosedError``."""
        raise StoreClosedError(f"{self.identity}: the store has been closed; open it again")

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse()


class _Fork:
    """What happens around ``os.fork``; the locks it takes are held from before it until after it."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def before(self) -> None:
        _lock.acquire()
        for engine in list(_engines.values()):
            self._held.enter_context(engine.still())

    def after_in_parent(self) -> None:
        self._held.close()
        for engine in _engines.values():
            engine.is_whole()
        _lock.release()

    def after_in_child(self) -> None:
        global _lock  # noqa: PLW0603  # the parent's lock is held by a thread that isn't here
        held = self._held.pop_all()
        _lock = threading.RLock()
        for engine in _engines.values():
            engine.start_over_in_child()
        # Last, and not left to the garbage collector: who gives up a turn passes on what waits, here nothing any more.
        held.close()


def is_in_use() -> bool:
    """Whether this process has a store open."""
    return bool(_engines)


_fork = _Fork()
os.register_at_fork(before=_fork.before, after_in_parent=_fork.after_in_parent, after_in_child=_fork.after_in_child)
