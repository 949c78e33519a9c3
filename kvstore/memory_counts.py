"""What a memory tier counts while it works, and the frozen figures that come of it."""

from __future__ import annotations

import itertools

from kvstore.backends import Space
from kvstore.frozen import Frozen
from kvstore.stats import Counts


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


class Counting:
    """The counters of one space while they count; all but the tallies change under the tier's lock."""

    __slots__ = ("bypassed", "evictions", "expirations", "hits", "insertions", "invalidations", "missed", "not_there")

    def __init__(self) -> None:
        self.hits = self.insertions = self.evictions = self.invalidations = self.expirations = self.bypassed = 0
        self.missed = _Tally()
        self.not_there = _Tally()

    def frozen(self) -> Counts:
        """The figures now."""
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
