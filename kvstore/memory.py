"""The memory tier: decoded values, bounded by what they cost in RAM, never older than the file.

A plain dict per space answers a hit; a cachetools policy behind it decides what leaves. A hit is one dict lookup and an
append to a buffer. The buffer is replayed into the policy, under the lock, before anything enters or leaves and when
somebody counts, so the policy sees every access in order though no hit takes the lock.

The tier stands at one commit, ``seen``. ``mark`` tells a reader without a lock whether the file still stands there: a
cell that the next commit will change, and what it holds now. The mark must be compared *before* the entry is looked up:
what is found afterwards is then no older than the file was at the comparison.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kvstore import codec
from kvstore.backends import Backend, Space
from kvstore.coherence import Change, Changes
from kvstore.frozen import Frozen
from kvstore.memory_entry import Address, Entry, EntryMaker, Token, has_views, token_of
from kvstore.memory_policy import Policy
from kvstore.stats import Counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    Note: TypeAlias = "tuple[MemoryTier, Entry]"
    """An entry, and the tier that it is for: what a write leaves in its transaction."""

BUFFER_LIMIT: Final = 4096
"""So many hits are buffered at the most before one of them replays the buffer."""

_FEW_SPACES: Final = 4
_NEVER: Final[tuple[Sequence[int], int]] = ((0,), 1)


class MemoryTier:
    """The memory tier of one store handle, for all its namespaces. Safe to use from every thread."""

    def __init__(self, capacity: int, policy: str | type[Any], backend: Backend, changes: Changes) -> None:
        self.capacity = capacity
        self.mark = _NEVER
        self.hits: list[Entry] = []
        self._policy = Policy(policy, capacity, self._evicted)
        self._maker = EntryMaker(self._policy.bookkeeping)
        self._fronts: dict[Space, dict[Token, Entry]] = {}
        self._counts: dict[Space, _Counting] = {}
        self._commits = backend.commits
        self._changes = changes
        self._lock = threading.RLock()
        self._seen = 0
        self.catch_up()

    # -- what a hit needs ----------------------------------------------------------------------------------------

    def front(self, space: Space) -> dict[Token, Entry]:
        """The entries of a space by token: to be looked up by anybody, changed by the tier alone."""
        with self._lock:
            self._counts.setdefault(space, _Counting())
            return self._fronts.setdefault(space, {})

    def replay(self) -> None:
        """Tell the policy of the hits so far. A hit calls this when the buffer is long."""
        with self._lock:
            self._drain()

    def _drain(self) -> None:
        if not self._policy.intact:
            self._drop_everything()
        buffer = self.hits
        count = len(buffer)
        if not count:
            return
        # Slicing and deleting by index are atomic, and what others append meanwhile stands behind the index.
        entries = buffer[:count]
        del buffer[:count]
        if len(self._counts) == 1:
            next(iter(self._counts.values())).hits += count
        else:
            spaces = [entry.space for entry in entries]
            kinds = set(spaces)
            # For a few, counting each is less than half the work of a Counter.
            numbers = Counter(spaces) if len(kinds) > _FEW_SPACES else {space: spaces.count(space) for space in kinds}
            for space, number in numbers.items():
                self._counts[space].hits += number
        self._policy.touch(entries)

    # -- reading through -----------------------------------------------------------------------------------------

    def tallies(self, space: Space) -> tuple[Iterator[int], Iterator[int]]:
        """What to advance for a lookup that goes to the file, and for one that finds nothing there."""
        counting = self._counts[space]
        return counting.missed.steps, counting.not_there.steps

    def offer(
        self,
        space: Space,
        token: Token,
        value: object,
        payload: bytes | memoryview,
        extended: bool,
        expires: int | None,
        commit: int,
    ) -> Any:
        """Keep the value that was read at ``commit``, and return what the reader may have of it.

        The tier takes it only if it stands at exactly that commit: a slow reader never puts back a value that a writer
        has replaced meanwhile.
        """
        with self._lock:
            if commit != self._seen:
                self._catch_up()
            if commit != self._seen or token in self._fronts[space]:
                return value
            self._drain()
            entry = self._maker.make(space, token, value, payload, extended, expires)
            self._insert(entry)
        # Of a container the tier has kept the object itself, of anything else its bytes.
        return value if entry.value is not value or entry.hand is None else entry.hand(value)

    def recall_at(self, commit: int, space: Space, token: Token) -> Entry | None:
        """The entry, where the tier stands at exactly that commit."""
        with self._lock:
            return self._fronts[space].get(token) if self._seen == commit else None

    def note(
        self, space: Space, token: Token, value: object, payload: bytes, extended: bool, expires: int | None
    ) -> Note | None:
        """What to leave with a write, for ``committed`` to take in; None where the tier is off."""
        if not self.capacity:
            return None
        if space not in self._fronts:
            self.front(space)
        if extended and codec.VIEWS and has_views(value):
            # The array is its owner's, who may change it. What was encoded can't change, and is what others will read.
            value = codec.decode(payload, extended)
        return self, self._maker.make(space, token, value, payload, extended, expires)

    def expired(self, entry: Entry) -> None:
        """The time of an entry is over: drop it."""
        with self._lock:
            if self._fronts[entry.space].get(entry.token) is entry:
                self._drain()
                del self._fronts[entry.space][entry.token]
                self._policy.remove(entry.address)
                self._counts[entry.space].expirations += 1

    # -- staying true --------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Drop what commits by others have changed, so that hits may go on."""
        if self.capacity:
            with self._lock:
                self._catch_up()

    def forget(self, changed: Iterable[Change]) -> None:
        """Drop the keys that a commit is about to change. The policy keeps their places until it is known whether they
        come back, so that a frequency survives an overwrite.
        """
        with self._lock:
            if not any(self._fronts.values()):
                return
            for change in changed:
                if not change[1]:
                    # A whole space: nothing of it comes back, and its places couldn't be found again.
                    self._drop((change,))
                    continue
                space, encoded = change
                front = self._fronts.get(space)
                if front and front.pop(token_of(encoded), None) is not None:
                    self._counts[space].invalidations += 1

    def abandon(self, changed: Iterable[Change]) -> None:
        """The commit that ``forget`` was called for failed: give up the places that the policy has kept."""
        with self._lock:
            self._drain()
            for space, token in self._known(changed):
                if token not in self._fronts[space]:
                    self._policy.remove(_address(space, token))

    def committed(self, commit: int, changed: Mapping[Change, Note | None]) -> None:
        """Take note of a commit of this process: drop what it changed, and keep what was written through this tier."""
        if not self.capacity:
            return
        with self._lock:
            self._drain()
            kept = {change: note[1] for change, note in changed.items() if note is not None and note[0] is self}
            if self._seen == commit - 1:
                if len(kept) < len(changed):
                    self._drop(change for change in changed if change not in kept)
                for entry in kept.values():
                    # A reader may have put the value before back since it was forgotten; it must be gone before the tier
                    # stands where that value is no more.
                    if self._fronts[entry.space].pop(entry.token, None) is not None:
                        self._counts[entry.space].invalidations += 1
                self._stand_at(commit)
            else:
                self._catch_up()
            if self._seen == commit:
                for entry in kept.values():
                    self._insert(entry)

    def _catch_up(self) -> None:
        if not self.capacity:
            return
        newest = max(self._commits[0][0], self._commits[1][0])
        if newest != self._seen:
            self._drain()
            changed = self._changes.between(self._seen, newest) if newest > self._seen else None
            if changed is None:
                self._drop_everything()
            else:
                self._drop(changed)
        self._stand_at(newest)

    def _stand_at(self, commit: int) -> None:
        self._seen = commit
        for own, other in (self._commits, self._commits[::-1]):
            if own[0] == commit and (before := other[0]) <= commit:
                self.mark = (other, before)
                return
        # Another commit has come already: let the next reader catch up.
        self.mark = _NEVER

    # -- what is in it -------------------------------------------------------------------------------------------

    def _known(self, changed: Iterable[Change]) -> Iterator[tuple[Space, Token]]:
        for space, encoded in changed:
            front = self._fronts.get(space)
            if front is None:
                continue
            if encoded:
                yield space, token_of(encoded)
            else:
                for token in list(front):
                    yield space, token

    def _drop(self, changed: Iterable[Change]) -> None:
        if not (len(self._policy) or any(self._fronts.values())):
            return
        for space, token in self._known(changed):
            if self._fronts[space].pop(token, None) is not None:
                self._counts[space].invalidations += 1
            self._policy.remove(_address(space, token))

    def _drop_everything(self) -> None:
        for space, front in self._fronts.items():
            self._counts[space].invalidations += len(front)
            front.clear()
        self._policy.clear()

    def _insert(self, entry: Entry) -> None:
        counts = self._counts[entry.space]
        front = self._fronts[entry.space]
        if entry.cost > self.capacity:
            # Not the one before it either, which a reader may have put back since it was forgotten.
            if front.pop(entry.token, None) is not None:
                counts.invalidations += 1
            self._policy.remove(entry.address)
            counts.bypassed += 1
            return
        if self._policy.insert(entry.address, entry):
            if front.get(entry.token) is not None:
                counts.invalidations += 1
            front[entry.token] = entry
            counts.insertions += 1
        elif front.pop(entry.token, None) is not None:
            counts.invalidations += 1
        if not self._policy.intact:
            self._drop_everything()
            counts.bypassed += 1
        elif not self._policy.tells_all and len(self._policy) < sum(map(len, self._fronts.values())):
            self._follow_policy()

    def _evicted(self, entry: Entry) -> None:
        front = self._fronts[entry.space]
        if front.get(entry.token) is entry:
            del front[entry.token]
            self._counts[entry.space].evictions += 1

    def _follow_policy(self) -> None:
        """Let go of what the policy has let go of without ``popitem``, as policies with a time limit do."""
        for front in self._fronts.values():
            for entry in [entry for entry in front.values() if entry.address not in self._policy]:
                self._evicted(entry)

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
            self._drain()
            self._drop_everything()
            self._commits = commits
            self._catch_up()

    def close(self) -> None:
        """Let go of everything, for good."""
        with self._lock:
            self.capacity = 0
            self.mark = _NEVER
            self._drain()
            self._drop_everything()

    def stats(self) -> TierStats:
        """The counters, to the last hit, and the state."""
        with self._lock:
            self._drain()
            counts = {space: counting.frozen() for space, counting in self._counts.items()}
            return TierStats(counts, sum(map(len, self._fronts.values())), self._policy.bytes)


class TierStats(Frozen):
    """A memory tier at one moment: counters by space, entries and what they cost in bytes."""

    counts: dict[Space, Counts]
    entries: int
    memory_bytes: int


class _Tally:
    """A counter that counts without a lock: ``next(steps)`` is one atomic step of C."""

    __slots__ = ("_looks", "steps")

    def __init__(self) -> None:
        self.steps = itertools.count()
        self._looks = 0

    def value(self) -> int:
        """How many steps others have made. Looking is a step too, and so is counted itself."""
        value = next(self.steps) - self._looks
        self._looks += 1
        return value


class _Counting:
    """The counters of one space while they count; all but the tallies change under the tier's lock."""

    __slots__ = ("bypassed", "evictions", "expirations", "hits", "insertions", "invalidations", "missed", "not_there")

    def __init__(self) -> None:
        self.hits = self.insertions = self.evictions = self.invalidations = self.expirations = self.bypassed = 0
        self.missed = _Tally()
        self.not_there = _Tally()

    def frozen(self) -> Counts:
        return Counts(
            hits=self.hits,
            misses=self.missed.value(),
            absent=self.not_there.value(),
            insertions=self.insertions,
            evictions=self.evictions,
            invalidations=self.invalidations,
            expirations=self.expirations,
            bypassed=self.bypassed,
        )


def _address(space: Space, token: Token) -> Address:
    return (space, token) if space else token
