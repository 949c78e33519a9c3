"""Warm restarts: a handle's memory tier is remembered when it closes, and loaded when it opens again.

What is remembered is a list of keys (``warm_list``), hottest first. Loading reads each as a miss would, and brings in what
the file has now, so whatever the list says, nothing stale, ended or damaged gets in. It fills only free room, in a
thread of the handle's own that rests after every millisecond of work: what live traffic has brought in stays, and comes
first.

The list is saved now and then as well, since a process that is killed closes nothing: by such a thread again, which whoever
brings a new entry in starts, where it is time to. No thread waits for that time: one that is alive when a process forks
makes Python warn.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from time import monotonic, sleep

from kvstore import keys, record, warm_list
from kvstore.backends import OWN_SPACE, Space
from kvstore.engine import Engine
from kvstore.expiry import Clock
from kvstore.memory import MemoryTier
from kvstore.memory_entry import Entry, Token, token_of
from kvstore.stats import Counts
from kvstore.warm_list import HotKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeVar

    T = TypeVar("T")

SAVE_SECONDS: Final = 300.0
"""How long after the list was saved it may be saved again, while the store is open."""
_RENEWED: Final = 8
"""It is, once as much as an eighth of the tier has come in since, so that a load which has settled writes nothing."""
_WORK_SECONDS: Final = 0.001
_REST_SECONDS: Final = 0.0002
"""Long enough for another thread to take the interpreter; a rest of no length is none."""
_ATTEMPTS: Final = 3
"""So often is a key read where a commit comes between reading it and taking it in."""
_ARRANGED_AT_ONCE: Final = 256
_PATIENCE_SECONDS: Final = 5.0

_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


class Keeper:
    """What keeps one handle warm: loads its memory tier from ``begin`` on, saves the list of what is in it, ends with ``close``.

    It counts as a handle of the engine, so that the file is not closed under a read.
    """

    def __init__(self, engine: Engine, tier: MemoryTier, clock: Clock) -> None:
        self._engine = engine
        self._read = engine.backend.get
        self._path = engine.backend.hot_list
        self._tier = tier
        self._clock = clock
        self._loaded = False
        self._in_turn: dict[Entry, int] = {}
        self._brought_in = 0
        self._saved = Counts()
        self._closing = False
        self._holds: list[Engine] = []
        self._await_thread()

    def begin(self) -> None:
        """Start loading."""
        self._engine.keep()
        self._holds.append(self._engine)
        _keepers.add(self)
        self._go_on()

    def wait(self, timeout: float | None) -> bool:
        """Wait until what was hot is loaded; whether it is, within so many seconds."""
        self._go_on()
        thread = self._thread
        if thread is not None:
            # Not only until all is loaded: whoever forks next should find the thread gone.
            thread.join(timeout)
        return self._loaded

    def close(self) -> None:
        """End the thread, and save the list; whatever keeps it from being saved keeps nobody from closing."""
        self._closing = True
        try:
            with self._starting:
                thread = self._thread
            # Where an interrupt has kept it from being started, it can't be joined.
            with contextlib.suppress(RuntimeError):
                if thread is not None and thread is not threading.current_thread():
                    # Not for ever: the garbage collector may have come here in a thread that has what this one waits for.
                    thread.join(_PATIENCE_SECONDS)
        finally:
            self._left_alone = True
            if self._over:
                self._let_go()
        # Half loaded, the tier knows less than the list.
        if self._loaded and (activity := self._activity()) != self._saved:
            with contextlib.suppress(Exception):
                self._save([*self._tier.coldest_first()], activity)

    def _let_go(self) -> None:
        with contextlib.suppress(IndexError):
            self._holds.pop().release()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _await_thread(self) -> None:
        """There is no thread."""
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # Of the thread and of who closes, the one that comes second lets go.
        self._over = True
        self._left_alone = False

    def _go_on(self) -> None:
        """Load, unless that is done or under way."""
        if not self._loaded:
            self._have_done(self._load)

    def _have_done(self, work: Callable[[], object]) -> None:
        """Do the work in a thread, unless one is at work."""
        with self._starting:
            if self._closing or not self._over:
                return
            self._thread = threading.Thread(target=self._run, args=(work,), name="kvstore-warm", daemon=True)
            self._over = False
            try:
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter is ending: a cold store is a store
                self._over = True
                self._thread = None

    def _run(self, work: Callable[[], object]) -> None:
        try:
            # Whatever goes wrong, the store is only colder for it.
            with contextlib.suppress(Exception):
                work()
        finally:
            self._over = True
            if self._left_alone:
                self._let_go()

    def _gently(self, items: Iterable[T]) -> Iterator[T]:
        """The items, a millisecond's work at a time, so that whoever waits for the interpreter gets it; no more of them once
        the store is closing.
        """
        until = monotonic() + _WORK_SECONDS
        for item in items:
            if self._closing:
                return
            yield item
            if monotonic() > until:
                sleep(_REST_SECONDS)
                until = monotonic() + _WORK_SECONDS

    # -- loading ---------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        tier = self._tier
        tier.on_entry = None
        in_turn = self._in_turn
        with contextlib.closing(warm_list.read(self._path)) as listed:
            # The hottest first: most reads are for few keys, and reads come before all is loaded. Where the policy's order
            # can't be mended afterwards, as they would have come in.
            wanted = self._fitting(listed)
            for space, encoded, cost in self._gently(wanted if tier.is_ordered else reversed([*wanted])):
                if cost <= tier.room:
                    entry = self._take(space, encoded)
                    if entry is not None:
                        in_turn.setdefault(entry, len(in_turn))
                        self._brought_in += 1
        if tier.is_ordered:
            self._arrange(in_turn)
        if not self._closing:
            self._in_turn = {}
            self._loaded = True
            self._await_news(tier.stats().entries)

    def _fitting(self, listed: Iterable[HotKey]) -> Iterator[HotKey]:
        """The hottest that there is room for."""
        room = self._tier.room
        for space, encoded, cost in listed:
            if cost <= room:
                room -= cost
                yield space, encoded, cost

    def _take(self, space: Space, encoded: bytes) -> Entry | None:
        """Bring in the value of one key, as of now; its entry, where there is one afterwards."""
        try:
            token = token_of(encoded)
            if space.startswith(OWN_SPACE) or self._tier.holds(space, token):
                return None
            for _ in range(_ATTEMPTS):
                raw, commit = self._read(space, encoded)
                if raw is None:
                    return None
                value, payload, extended, expires = record.load(space.encode() + encoded, raw)
                if expires is not None and expires <= self._clock() * 1000:
                    return None
                entry = self._tier.fill(space, token, value, payload, extended, expires, commit)
                if entry is not None:
                    return entry
        except Exception:  # a record that can't be read is for those to hear of who ask for it
            return None
        return None

    def _arrange(self, in_turn: dict[Entry, int]) -> None:
        """Put what was loaded, hottest first, into the order that it had, coldest first, before all that was used since."""
        untouched: list[Entry] = []
        used: list[Entry] = []
        latest = -1
        for entry in self._gently(self._tier.coldest_first()):
            # What nobody has asked for yet stands in the order in which it was loaded; what comes out of turn was moved.
            number = in_turn.get(entry, -1)
            if number > latest:
                latest = number
                untouched.append(entry)
            else:
                used.append(entry)
        order = [*reversed(untouched), *used]
        for start in self._gently(range(0, len(order), _ARRANGED_AT_ONCE)):
            self._tier.arrange(order[start : start + _ARRANGED_AT_ONCE])

    # -- saving ----------------------------------------------------------------------------------------------------

    def _await_news(self, entries: int) -> None:
        """Begin to count what comes into the tier, which has so many entries that are on the list."""
        self._came = 0
        self._due = max(1, entries // _RENEWED)
        self._not_before = monotonic() + SAVE_SECONDS
        self._tier.on_entry = self._count

    def _count(self) -> None:
        self._came += 1
        if self._came >= self._due and self._over and monotonic() >= self._not_before:
            self._have_done(self._save_meanwhile)

    def _save_meanwhile(self) -> None:
        # Before it is listed: what comes in meanwhile is news, and has whoever closes save again.
        activity = self._activity()
        self._await_news(self._tier.stats().entries)
        entries = [*self._gently(self._tier.coldest_first())]
        if not self._closing:
            self._save(entries, activity)

    def _save(self, coldest_first: list[Entry], activity: Counts) -> None:
        hottest_first = reversed(coldest_first)
        warm_list.write(self._path, ((entry.space, _encoded(entry.token), entry.cost) for entry in hottest_first))
        self._saved = activity

    def _activity(self) -> Counts:
        """What others have done with the tier."""
        return sum(self._tier.stats().counts.values(), start=Counts(insertions=-self._brought_in))

    # -- after a fork ----------------------------------------------------------------------------------------------

    def start_over_in_child(self) -> None:
        """The thread is the parent's. What it hasn't loaded is loaded by one of this process's own, which comes with what
        first comes into its memory: a child that does nothing with the store pays for nothing.
        """
        self._await_thread()
        if not self._loaded:
            self._tier.on_entry = self._go_on


def _encoded(token: Token) -> bytes:
    return token if type(token) is bytes else keys.encode(token)


def _start_over_in_child() -> None:
    for keeper in [*_keepers]:
        keeper.start_over_in_child()


# The engine has registered before, and so has been through it first.
os.register_at_fork(after_in_child=_start_over_in_child)
