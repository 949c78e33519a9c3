"""The memory tier: decoded values, bounded by what they cost in RAM, never older than the file.

A plain dict per space answers a hit; a cachetools policy behind it decides what leaves. A hit is one dict lookup and an
append to a buffer. The buffer is replayed into the policy, under the lock, before anything enters or leaves and when
somebody counts, so the policy sees every access in order though no hit takes the lock.

The tier stands at one commit, ``seen``. ``mark`` tells a reader without a lock whether the file still stands there: a
cell that the next commit will change, and what it holds now. The mark must be compared *before* the entry is looked up:
what is found afterwards is then no older than the file was at the comparison.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kvstore import codec
from kvstore.backends import Backend, Space
from kvstore.memory_content import Content
from kvstore.memory_counts import TierStats
from kvstore.memory_entry import Entry, Token, has_views, token_of
from kvstore.memory_sample import MISS, Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    from kvstore.coherence import Change, KnownChanges

    Note: TypeAlias = "tuple[MemoryTier, Token, object, bytes, bool, int | None]"
    """What a write leaves in its transaction: the tier that it is for, the key's token, the value, which must be nobody else's
    where it can change, its payload, whether that is extended, and its expiry."""

BUFFER_LIMIT: Final = 4096
"""So many hits are buffered at the most before one of them replays the buffer."""

_WRITTEN_AT_ONCE: Final = 32
_WRITTEN_BYTES: Final = 32 * 1024
"""So many written values wait at the most to be taken in together, with so many bytes of payload: they are beside the capacity.
"""

_NEVER: Final[tuple[Sequence[int], int]] = ((0,), 1)


class MemoryTier(Content):
    """The memory tier of one store handle, for all its namespaces. Safe to use from every thread."""

    def __init__(self, capacity: int, policy: str | type[Any], backend: Backend, changes: KnownChanges) -> None:
        super().__init__(capacity, policy)
        self.mark = _NEVER
        self._written: list[tuple[int, Mapping[Change, Note | None]]] = []
        self._waiting = self._waiting_bytes = 0
        self._commits = backend.commits
        self._changes = changes
        self._seen = 0
        self.default = self.front("")
        self.catch_up()

    # -- what a hit needs ----------------------------------------------------------------------------------------

    def replay(self) -> None:
        """Tell the policy of the hits so far. A hit calls this when the buffer is long."""
        with self._lock:
            self._drain()

    # -- reading through -----------------------------------------------------------------------------------------

    def tallies(self, space: Space) -> tuple[Iterator[int], Iterator[int]]:
        """What to advance for a lookup that goes to the file, and for one that finds nothing there."""
        counting = self._counts[space]
        return counting.missed.steps, counting.not_there.steps

    def offer(self, entry: Entry, value: Any, commit: int) -> Any:
        """Keep the entry of the value that was read at ``commit``, and return what the reader may have of it.

        The tier takes it only if it stands at exactly that commit: a slow reader never puts back a value that a writer
        has replaced meanwhile.
        """
        with self._lock:
            if commit != self._seen:
                self._catch_up()
            policy = self._policy
            if self.hits or not policy.intact:
                self._drain()
            space, token, address = entry.space, entry.token, entry.address
            front = self._fronts[space]
            if commit != self._seen or token in front:
                self._sample.record(MISS, address, entry.rank, 0)
                return value
            cost = entry.cost
            self._sample.record(MISS, address, entry.rank, cost)
            if not policy.tells_all or cost > self.capacity:
                self._insert(entry)
            # As `_insert`, of what was not there.
            elif policy.insert(address, entry):
                front[token] = entry
                self._counts[space].insertions += 1
                if self.on_entry is not None:
                    self.on_entry()
            else:
                self._drop_everything()
                self._counts[space].bypassed += 1
        hand = entry.hand
        # Of a container the tier has kept the object itself, of anything else its bytes.
        return value if hand is None or entry.value is not value else hand(value)

    def recall_at(self, commit: int, space: Space, tokens: Sequence[Token | None]) -> list[Entry | None]:
        """The entries, where the tier stands at exactly that commit; None for each that isn't there."""
        with self._lock:
            if self._seen != commit:
                return [None] * len(tokens)
            front: dict[Any, Entry] = self._fronts[space]  # nothing is under None
            return [*map(front.get, tokens)]

    def note(
        self,
        space: Space,
        key: object,
        encoded: bytes,
        value: object,
        payload: bytes,
        extended: bool,
        expires: int | None,
    ) -> Note | None:
        """What to leave with a write, for ``wrote`` to take in; None where the tier is off."""
        if not self.capacity:
            return None
        if space not in self._fronts:
            self.front(space)
        kind = type(key)
        token: Any = key if kind is str or kind is int else encoded
        return self, token, own(value, payload) if extended else value, payload, extended, expires

    def expired(self, entry: Entry) -> None:
        """The time of an entry is over: drop it."""
        with self._lock:
            # First, as it may drop everything.
            self._drain()
            if self._fronts[entry.space].get(entry.token) is entry:
                del self._fronts[entry.space][entry.token]
                self._policy.remove(entry.address)
                self._counts[entry.space].expirations += 1
                self._sample.dropped(entry.address, entry.rank)

    # -- staying true --------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Drop what commits by others have changed, so that hits may go on."""
        if self.capacity:
            with self._lock:
                self._catch_up()

    def forget(self, changed: Mapping[Change, Note | None]) -> None:
        """Drop the keys that a commit is about to change. The policy keeps their places until it is known whether they
        come back, so that a frequency survives an overwrite.
        """
        with self._lock:
            if not any(self._fronts.values()):
                return
            for change, note in changed.items():
                space, encoded = change
                front = self._fronts.get(space)
                if not front:
                    continue
                if not encoded:
                    # A whole space: nothing of it comes back, and its places couldn't be found again.
                    self._drop((change,))
                elif front.pop(token_of(encoded) if note is None else note[1], None) is not None:
                    self._counts[space].invalidations += 1

    def forget_one(self, token: Token) -> None:
        """As ``forget``, of one key of the default space."""
        with self._lock:
            if self.default.pop(token, None) is not None:
                self._counts[""].invalidations += 1

    def abandon(self, changed: Iterable[Change]) -> None:
        """The commit that ``forget`` was called for failed: give up the places that the policy has kept."""
        with self._lock:
            self._drain()
            for space, token in self._known(changed):
                if token not in self._fronts[space]:
                    self._remove(space, token)

    def wrote(self, commit: int, changed: Mapping[Change, Note | None]) -> None:
        """Take note of a commit of this process, whose keys ``forget`` was told of.

        What was written is taken in later: when the tier is next asked for anything, since ``mark`` sends every hit there, or by
        ``take_in``. After a flush each call comes to a cold processor; for several writes together it warms up.
        """
        if self.capacity:
            self._written.append((commit, changed))
            self._waiting += len(changed)
            self._waiting_bytes += sum([len(note[3]) for note in changed.values() if note is not None])

    def wrote_one(self, commit: int, key: bytes, note: Note) -> None:
        """As ``wrote`` and ``take_in``, of one key of the default space."""
        self._written.append((commit, {("", key): note}))
        self._waiting += 1
        self._waiting_bytes += len(note[3])
        if self._waiting >= _WRITTEN_AT_ONCE or self._waiting_bytes > _WRITTEN_BYTES:
            self.catch_up()

    def take_in(self) -> None:
        """Take in what was written, where it is more than may wait."""
        if self._waiting >= _WRITTEN_AT_ONCE or self._waiting_bytes > _WRITTEN_BYTES:
            self.catch_up()

    def _take_in_written(self) -> None:
        waiting = self._written
        count = len(waiting)
        if not count:
            return
        if self.hits or not self._policy.intact:
            self._drain()
        # As in ``_drain``. Should this be interrupted, the tier stands before what is lost, and catches up by the log of changes.
        taken = waiting[:count]
        del waiting[:count]
        self._waiting = self._waiting_bytes = 0
        for commit, changed in taken:
            if self._seen == commit - 1:
                self._pass(commit, changed)
            elif self._seen < commit:
                self._follow_changes(self._newest())
            if self._seen == commit:
                make = self.maker.make
                self._insert_written(
                    [
                        make(change[0], *note[1:])
                        for change, note in changed.items()
                        if note is not None and note[0] is self
                    ]
                )

    def _pass(self, commit: int, changed: Mapping[Change, Note | None]) -> None:
        """Stand at the commit, with nothing of what it changed."""
        others = []
        for change, note in changed.items():
            if note is None or note[0] is not self:
                others.append(change)
            # A reader may have put the value before back since it was forgotten; it must be gone before the tier stands where
            # that value is no more.
            elif self._fronts[change[0]].pop(note[1], None) is not None:
                self._counts[change[0]].invalidations += 1
        if others:
            self._drop(others)
        self._seen = commit

    def _catch_up(self) -> None:
        if not self.capacity:
            return
        while True:
            newest = self._newest()
            # A writer of this process tells of a commit before it begins the next one. So all but the newest one are waiting by
            # now; and where the log has given up its note of that for one of the next, it is waiting, too.
            self._take_in_written()
            if self._seen > newest:
                newest = self._newest()
            if self._follow_changes(newest, unless=self._written):
                return

    def _newest(self) -> int:
        return max(self._commits[0][0], self._commits[1][0])

    def _follow_changes(self, newest: int, unless: Sequence[object] = ()) -> bool:
        """Stand at the newest commit, with nothing of what has changed up to there; whether that was done, which it isn't where
        the log doesn't know, and there is something in ``unless``.
        """
        if newest != self._seen:
            changed = self._changes.between(self._seen, newest) if newest > self._seen else None
            if changed is None and unless:
                return False
            self._drain()
            if changed is None:
                self._drop_everything()
                self._sample.cleared()
            else:
                self._drop(changed)
        self._stand_at(newest)
        return True

    def _stand_at(self, commit: int) -> None:
        self._seen = commit
        first, second = self._commits
        if first[0] == commit:
            other = second
        elif second[0] == commit:
            other = first
        else:
            # Another commit has come already: let the next reader catch up.
            self.mark = _NEVER
            return
        before = other[0]
        self.mark = (other, before) if before <= commit else _NEVER

    # -- warm restarts -------------------------------------------------------------------------------------------

    def fill(
        self,
        space: Space,
        token: Token,
        value: object,
        payload: bytes | memoryview,
        extended: bool,
        expires: int | None,
        commit: int,
    ) -> Entry | None:
        """As ``offer``, for what nobody has asked for: only into free room. The entry that is there afterwards, or None."""
        with self._lock:
            if commit != self._seen:
                self._catch_up()
            if commit != self._seen:
                return None
            front = self._fronts.get(space)
            if front is None:
                front = self.front(space)
            if token not in front:
                self._drain()
                entry = self.maker.make(space, token, value, payload, extended, expires)
                if entry.cost <= self.room:
                    self._insert(entry)
            return front.get(token)

    def coldest_first(self) -> Iterator[Entry]:
        """The entries that are there now, in the order in which they would leave; where that can't be told, in any."""
        with self._lock:
            self._take_in_written()
            self._drain()
            if self._policy.is_ordered:
                return self._policy.coldest_first()
            return iter([entry for front in self._fronts.values() for entry in front.values()])

    def arrange(self, entries: Iterable[Entry]) -> None:
        """Have these entries leave after all others, in this order."""
        with self._lock:
            self._drain()
            self._policy.renew(entry for entry in entries if self._fronts[entry.space].get(entry.token) is entry)

    # -- what happens to it as a whole ---------------------------------------------------------------------------

    def held(self) -> threading.RLock:
        """The tier's lock, for who must keep everything as it is for a while."""
        return self._lock

    def move_to(self, commits: tuple[Sequence[int], Sequence[int]]) -> None:
        """The same records are in another file now, whose commits are told by these cells; nobody has committed to either
        since the one took the other's place.
        """
        with self._lock:
            # By the old file's cells, which tell for ever of its last commit.
            self._catch_up()
            self._commits = commits
            if self.capacity:
                self._stand_at(max(commits[0][0], commits[1][0]))

    def start_over_in_child(self) -> None:
        """In a forked child: what is known stays, a lock that is this process's own replaces the parent's."""
        self._lock = threading.RLock()

    def start_over_with(self, commits: tuple[Sequence[int], Sequence[int]]) -> None:
        """Another file is in the place of the one that was read: forget everything."""
        with self._lock:
            self._written.clear()
            self._drain()
            self._drop_everything()
            self._sample.cleared()
            self._commits = commits
            self._catch_up()

    def close(self) -> None:
        """Let go of everything, for good."""
        with self._lock:
            self.capacity = 0
            self.mark = _NEVER
            self._written.clear()
            self._drain()
            self._drop_everything()

    def traffic(self) -> Traffic:
        """The sample of what was asked for, to the last hit."""
        with self._lock:
            self._take_in_written()
            self._drain()
            return self._sample.traffic()

    def stats(self) -> TierStats:
        """The counters, to the last hit, and the state."""
        with self._lock:
            self._take_in_written()
            self._drain()
            counts = {space: counting.frozen() for space, counting in self._counts.items()}
            return TierStats(counts, sum(map(len, self._fronts.values())), self._policy.bytes)


def own(value: object, payload: bytes) -> object:
    """An extended value that is the caller's, as memory may keep it."""
    # An array is its owner's, who may change it. What was encoded can't change, and is what others will read.
    return codec.decode(payload, True) if codec.VIEWS and has_views(value) else value
