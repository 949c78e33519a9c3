"""What is in a memory tier: entries by space and token, and the policy that says which of them leave.

Each entry that the policy knows is at its place, and each at its place is known to the policy, but for keys that are being
overwritten: these keep their places with the policy until it is known whether they come back.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from kvstore.backends import Space
from kvstore.memory_counts import Counting
from kvstore.memory_entry import Address, Entry, EntryMaker, Token, token_of
from kvstore.memory_policy import Policy
from kvstore.memory_rank import rank
from kvstore.memory_sample import Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from kvstore.coherence import Change

_FEW_SPACES: Final = 4


class Content:
    """The entries within a capacity in bytes, their policy, their counters, and the sample of what was asked for.

    Whatever changes it is called under ``_lock``.
    """

    def __init__(self, capacity: int, policy: str | type[Any]) -> None:
        self.capacity = capacity
        self.hits: list[Entry] = []
        self._policy = Policy(policy, capacity, self._evicted)
        self.maker = EntryMaker(self._policy.bookkeeping)
        self._fronts: dict[Space, dict[Token, Entry]] = {}
        self._counts: dict[Space, Counting] = {}
        self._sample = Sample(self._policy.__len__, self._absent)
        self._lock = threading.RLock()
        self.on_entry: Callable[[], object] | None = None
        """Called, under the lock, when something has been offered and may have come in."""

    def front(self, space: Space) -> dict[Token, Entry]:
        """The entries of a space by token: to be looked up by anybody, changed by the tier alone."""
        with self._lock:
            self._counts.setdefault(space, Counting())
            return self._fronts.setdefault(space, {})

    @property
    def is_ordered(self) -> bool:
        """Whether ``coldest_first`` gives the order in which entries leave, and ``arrange`` sets it."""
        return self._policy.is_ordered

    @property
    def room(self) -> int:
        """How many bytes are free."""
        return self.capacity - self._policy.bytes

    def holds(self, space: Space, token: Token) -> bool:
        """Whether there is an entry of the key."""
        return token in self._fronts.get(space, ())

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
        self._sample.hits(entries)

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
        if not (len(self._policy) or any(self._fronts.values()) or len(self._sample)):
            return
        changed = tuple(changed)
        if len(self._fronts) == 1 and not all(encoded for _, encoded in changed):
            self._sample.cleared()
        for space, token in self._known(changed):
            if self._fronts[space].pop(token, None) is not None:
                self._counts[space].invalidations += 1
            self._remove(space, token)

    def _remove(self, space: Space, token: Token) -> None:
        address = address_of(space, token)
        self._policy.remove(address)
        # Whether it was in this tier or not: a larger one may have it.
        self._sample.dropped(address, rank(space, token))

    def _drop_everything(self) -> None:
        for space, front in self._fronts.items():
            self._counts[space].invalidations += len(front)
            front.clear()
        self._policy.clear()

    def _insert_written(self, entries: list[Entry]) -> None:
        """Take in the entries of what was written, each new to the tier."""
        self._sample.writes(entries)
        for entry in entries:
            self._insert(entry)

    def _insert(self, entry: Entry) -> None:
        space, token, policy = entry.space, entry.token, self._policy
        counts = self._counts[space]
        front = self._fronts[space]
        if entry.cost > self.capacity:
            # Not the one before it either, which a reader may have put back since it was forgotten.
            if front.pop(token, None) is not None:
                counts.invalidations += 1
            policy.remove(entry.address)
            counts.bypassed += 1
            return
        if policy.insert(entry.address, entry):
            if token in front:
                counts.invalidations += 1
            front[token] = entry
            counts.insertions += 1
        else:
            if front.pop(token, None) is not None:
                counts.invalidations += 1
            if not policy.intact:
                self._drop_everything()
                counts.bypassed += 1
        if not policy.tells_all and len(policy) < sum(map(len, self._fronts.values())):
            self._follow_policy()
        if self.on_entry is not None:
            self.on_entry()

    def _evicted(self, entry: Entry) -> None:
        space, token = entry.space, entry.token
        front = self._fronts[space]
        if front.get(token) is entry:
            del front[token]
            self._counts[space].evictions += 1

    def _follow_policy(self) -> None:
        """Let go of what the policy has let go of without ``popitem``, as policies with a time limit do."""
        for front in self._fronts.values():
            for entry in [entry for entry in front.values() if entry.address not in self._policy]:
                self._evicted(entry)

    def _absent(self) -> int:
        return sum(counting.not_there.value() for counting in self._counts.values())


def address_of(space: Space, token: Token) -> Address:
    """What the policy knows an entry by."""
    return (space, token) if space else token
