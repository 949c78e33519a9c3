"""Miniature tiers: the sampled traffic, run through the very policy, at a size that is scaled as the keys are.

So each prediction is measured, not modelled (miniature simulation: Waldspurger, Saemundsson, Ahmad and Park, USENIX ATC '17),
and any policy will do that is made of its size alone.

What is counted is misses, scaled up and held against all lookups, which the tier has counted one by one. So it makes no
difference whether the hottest key happens to be in the sample: the correction of SHARDS-adj (Waldspurger, Park, Garthwaite
and Ahmad, FAST '15). They are scaled not by the share of keys that is sampled but by the share that these keys had of the
misses of the tier itself, which were all counted too: where the sample has more than its share of the keys that are often
missed, it is so at other sizes as well.
"""

from __future__ import annotations

import math
import random
import statistics

from kvstore.memory_policy import Policy
from kvstore.memory_sample import ABSENT, DROP, FOUND, HIT, KINDS, MISS, PAUSED, WRITE, Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any, Final, TypeAlias

    Event: TypeAlias = "tuple[int, Key]"
    """A kind of record, and its key and cost."""

_GROUPS: Final = 8
_PRIOR: Final = 100
"""So many misses of the tier tell as much of what share of all misses the sampled keys have as the share of keys does."""


class Key:
    """A sampled key, as an entry of a miniature tier."""

    __slots__ = ("address", "cost")

    def __init__(self, address: int, cost: int) -> None:
        self.address = address
        self.cost = cost


class Miniatures:
    """A tier's traffic, ready to be run through miniature tiers."""

    def __init__(self, traffic: Traffic, policy: str | type[Any]) -> None:
        """``policy`` is the one that the tier has had."""
        self._rate = traffic.rate
        events = _decoded(traffic)
        self._priced = {key for kind, key in events if kind <= WRITE and key.cost}
        self._bookkeeping = _bookkeeping(policy)
        costs = {key.address: key.cost for key in self._priced}
        self.footprint = sum(costs.values()) / traffic.rate
        """What all that was seen would cost together, in bytes."""
        begin = 0 if traffic.complete else _settled(events)
        warming = ([] if traffic.complete else _in_memory_before(events)) + events[:begin]
        counted = events[begin:]
        found = sum(key.address for kind, key in counted if kind == FOUND)
        self._missed = missed = sum(key.cost for kind, key in counted if kind == FOUND)
        self._absent = sum(key.address for kind, key in counted if kind == ABSENT)
        self.lookups = found + self._absent
        """How many lookups the predictions are for."""
        self.measured = 1 - (missed + self._absent) / self.lookups if self.lookups else None
        """The hit rate that the tier itself had in them."""
        self._whole = warming, counted
        self._parts = list(zip(_dealt(warming), _dealt(counted), strict=True)) if traffic.rate < 1 else []

    def hit_rate(self, policy: str | type[Any], size: int) -> tuple[float | None, float | None]:
        """The hit rate with this policy at this size, and its standard error: by random groups (Wolter, Introduction to Variance
        Estimation, chapter 2), with the bias by the jackknife.
        """
        # Part of what an entry costs is its place in the policy's tables.
        more = _bookkeeping(policy) - self._bookkeeping
        if more:
            self._bookkeeping += more
            for key in self._priced:
                key.cost += more
        rate = self._run(policy, size, self._rate, *self._whole)
        if not self.lookups:
            return None, None
        if not self._parts:
            return rate, 0.0
        # Smaller samples, no two with a key in common: what they differ by tells what the whole one may be off by by chance; what
        # they are all off by, being smaller, what it is off by for being as small as it is.
        rates = [self._run(policy, size, self._rate / _GROUPS, *part) for part in self._parts]
        chance = statistics.stdev(rates) / _GROUPS**0.5
        smallness = (statistics.fmean(rates) - rate) / (_GROUPS - 1)
        # Not less for the share of the keys that is sampled, which is no small one: eight samples, in which a few keys count
        # most, say too little of the chance for that.
        return rate, math.hypot(chance, smallness)

    def _run(
        self, policy: str | type[Any], size: int, share: float, warming: list[Event], counted: list[Event]
    ) -> float:
        miniature = Miniature(policy, int(size * share))
        miniature.run(warming)
        own = sum(kind == MISS for kind, _ in counted)
        share_of_misses = (own + _PRIOR) / (self._missed + _PRIOR / share)
        misses = miniature.run(counted) / share_of_misses + self._absent
        return min(max(1 - misses / self.lookups, 0.0), 1.0) if self.lookups else 0.0


class Miniature:
    """A tier with one policy, as far as its hits and misses go."""

    def __init__(self, policy: str | type[Any], capacity: int) -> None:
        self._capacity = capacity
        # The same lots are drawn each time, and none of the program's own are used up.
        self._policy = Policy(policy, capacity, self._evicted, random.Random(capacity).choice)  # noqa: S311
        self._addresses: set[int] = set()
        self._held: Container[int] = self._addresses if self._policy.tells_all else self._policy  # type: ignore[assignment]

    def run(self, events: list[Event]) -> float:
        """Serve them, in order; how many lookups missed. Of the hits in a pause, which were not recorded, as many are taken
        to be misses here as of those in the stretch before it.
        """
        held, policy = self._held, self._policy
        hits: list[Any] = []
        misses = lost = recorded = 0
        share = unrecorded = 0.0
        paused = False
        for kind, key in events:
            if kind < WRITE:
                if key.address in held:
                    hits.append(key)
                    continue
                misses += 1
                lost += kind == HIT
            elif kind == FOUND:
                if paused:
                    unrecorded += share * (key.address - key.cost)
                else:
                    recorded += key.address - key.cost
                paused = False
                continue
            elif kind == PAUSED:
                if recorded:
                    share = lost / recorded
                lost = recorded = 0
                paused = True
                continue
            elif kind == ABSENT:
                continue
            if hits:
                policy.touch(hits)
                hits = []
            if kind <= WRITE:
                self._insert(key)
            elif kind == DROP:
                self._addresses.discard(key.address)
                policy.remove(key.address)
            else:
                self._clear()
        if hits:
            policy.touch(hits)
        return misses + unrecorded

    def _insert(self, key: Key) -> None:
        address, cost = key.address, key.cost
        if not cost:
            return
        if cost > self._capacity:
            self._addresses.discard(address)
            self._policy.remove(address)
        elif self._policy.insert(address, key):  # type: ignore[arg-type]
            self._addresses.add(address)
        elif not self._policy.intact:
            self._clear()

    def _evicted(self, key: Any) -> None:
        self._addresses.discard(key.address)

    def _clear(self) -> None:
        self._addresses.clear()
        self._policy.clear()


def _bookkeeping(policy: str | type[Any]) -> int:
    return Policy(policy, 0, lambda key: None).bookkeeping


def _decoded(traffic: Traffic) -> list[Event]:
    keys: dict[tuple[int, int], Key] = {}
    events = []
    for kind, address, cost in zip(traffic.kinds, traffic.keys, traffic.costs, strict=True):
        key = keys.get((address, cost))
        if key is None:
            key = keys[address, cost] = Key(address, cost)
        events.append((kind & KINDS, key))
    return events


def _settled(events: list[Event]) -> int:
    """Where counting may begin: behind a count, with a quarter of the records before it."""
    return next((at + 1 for at, (kind, _) in enumerate(events) if kind == ABSENT and at >= len(events) // 4), 0)


def _in_memory_before(events: list[Event]) -> list[Event]:
    """What was in memory before the first record: the keys that it answered for when they first came up. Which of them
    were used last is not known; those that came up first, most likely.
    """
    first: dict[int, Event] = {}
    for kind, key in events:
        if kind <= DROP:
            first.setdefault(key.address, (kind, key))
    return [(WRITE, key) for kind, key in reversed(first.values()) if kind == HIT]


def _dealt(events: list[Event]) -> list[list[Event]]:
    """The events by key, at random, in so many groups; what is about no key is in each of them."""
    draw = random.Random(0)  # noqa: S311  # the same groups each time
    hands: list[list[Event]] = [[] for _ in range(_GROUPS)]
    whose: dict[int, int] = {}
    for event in events:
        kind, key = event
        if kind > DROP:
            for hand in hands:
                hand.append(event)
            continue
        group = whose.get(key.address)
        if group is None:
            group = whose[key.address] = draw.randrange(_GROUPS)
        hands[group].append(event)
    return hands
