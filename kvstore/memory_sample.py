"""What the memory tier has been asked for, as a bounded sample: what ``forecast`` runs through other tiers.

Keys are sampled by their hash, each with every access to it: a tier that is smaller in the proportion in which keys are
sampled serves them as the whole tier serves all (SHARDS: Waldspurger, Park, Garthwaite and Ahmad, FAST '15). When the records
are too many, fewer keys are sampled from there on, and the records of the others are forgotten; when that would leave too
few keys, the oldest records are.

A hit itself pays nothing, and its replay little: where hits are many and misses few, hits are recorded in stretches, with
longer pauses in between. Whatever changes the content of a tier is always recorded.
"""

from __future__ import annotations

from array import array
from itertools import compress

from kvstore.frozen import Frozen
from kvstore.memory_rank import MOST_RANK, RANK, rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from kvstore.memory_entry import Address, Entry

HIT, MISS, WRITE, DROP, CLEARED, FOUND, ABSENT, PAUSED = range(8)
"""Kinds of records. Each has a key, as 32 bits of its hash, and what its entry costs in bytes:

``HIT``, ``MISS``: a lookup that memory, or the file, answered; a miss costs 0 where the policy was not offered the value.
``WRITE``, ``DROP``: an entry was written; a value is gone. ``CLEARED``: every value is gone.
``FOUND``: in the place of the key, how many lookups since the last such record found something; of the cost, how many of them
in the file. ``ABSENT``: in the place of the key, how many found nothing. The two go together.
``PAUSED``: from here to the next ``FOUND`` no hits are recorded.
"""
KINDS: Final = RANK - 1
"""The bits of a kind in what is recorded of it; the key's rank has the others."""

_FULL: Final = 14 * 4096
_MARKED_EVERY: Final = 2048
_FLAGS: Final = 1 << 13
_FLAGGED: Final = 6 * RANK
_MANY_KEYS: Final = 6000
_FEW_HELD: Final = 32
_MANY_HITS: Final = 16
_MANY_WRITES: Final = 4
_KEY: Final = (1 << 32) - 1
_EXACT: Final = (1 << 15) - 1

# In hundredths of a hit: what it costs to look at one, and to record it. A hit pays 1, and a miss, which costs as much as many
# hits, enough to record the next few.
_LOOK_PRICE: Final = 16
_RECORD_PRICE: Final = 80
_MISS_PAYS: Final = 8 * (_LOOK_PRICE + _RECORD_PRICE)
_STRETCH: Final = 8192 * (_LOOK_PRICE + _RECORD_PRICE)
_MOST_CREDIT: Final = 4 * _STRETCH


class Traffic(Frozen):
    """A sample's records at one moment, column by column."""

    kinds: Sequence[int]
    """The kinds in the bits that are in ``KINDS``."""
    keys: Sequence[int]
    costs: Sequence[int]
    rate: float
    """The share of all keys that is sampled."""
    complete: bool
    """Whether it goes back to the first access; otherwise older records have made room for later ones."""


class Sample:
    """The sample of one memory tier, which calls it under its lock. It takes 7 bytes for each of up to 57,344 records.

    ``held`` tells how many entries the tier has, and ``absent`` how many lookups have found nothing so far.
    """

    def __init__(self, held: Callable[[], int], absent: Callable[[], int]) -> None:
        self._held = held
        self._absent = absent
        # The kinds, with the key's rank in the upper bits: it is sampled while its rank is as high as the floor.
        self._kinds, self._keys, self._costs = array("B"), array("I"), array("H")
        self._floor = 0
        self._complete = True
        self._observing = True
        self._credit = _STRETCH
        self._due = _MARKED_EVERY
        self._hit = self._missed = self._absent_before = 0
        # One for an eighth of the keys each, by the key's hash, to tell roughly how many have come in since records were last
        # forgotten.
        self._flags = bytearray(_FLAGS)

    def __len__(self) -> int:
        return len(self._kinds)

    # -- what happens --------------------------------------------------------------------------------------------

    def hits(self, entries: list[Entry]) -> None:
        """These entries were hit, in this order."""
        count = len(entries)
        self._hit += count
        self._credit += count
        if self._observing:
            kinds = self._kinds
            before = len(kinds)
            if count < _MANY_HITS:
                self._record_few(entries)
            else:
                self._record_many(HIT, entries)
            self._credit -= count * _LOOK_PRICE + (len(kinds) - before) * _RECORD_PRICE
            if len(kinds) >= self._due:
                self._tidy()
            if self._credit < 0:
                self._mark()
                self._observing = False
                self._note(PAUSED)
        elif self._credit >= _STRETCH:
            self._mark()
            self._observing = True

    def _record_few(self, entries: list[Entry]) -> None:
        """Record the hits one by one: between two misses there are too few for what is quicker with many."""
        floor, kinds, keys, costs = self._floor, self._kinds, self._keys, self._costs
        for entry in entries:
            rank = entry.rank
            if rank >= floor:
                cost = entry.cost
                kinds.append(rank)
                keys.append(hash((entry.address,)) & _KEY)
                costs.append(cost if cost <= _EXACT else _short(cost))

    def _record_many(self, kind: int, entries: list[Entry]) -> None:
        """Record the same of all these entries."""
        floor = self._floor
        chosen = [entry for entry in entries if entry.rank >= floor]
        self._kinds.extend([kind | entry.rank for entry in chosen])
        self._keys.extend([hash((entry.address,)) & _KEY for entry in chosen])
        costs = [entry.cost for entry in chosen]
        self._costs.extend(costs if max(costs, default=0) <= _EXACT else map(_short, costs))

    def writes(self, entries: list[Entry]) -> None:
        """These entries were written, in this order."""
        if len(entries) < _MANY_WRITES:
            for entry in entries:
                self.record(WRITE, entry.address, entry.rank, entry.cost)
            return
        for begin in range(0, len(entries), _MARKED_EVERY):
            piece = entries[begin : begin + _MARKED_EVERY]
            self._credit = max(self._credit, min(self._credit + len(piece) * _MISS_PAYS, _MOST_CREDIT))
            flagged = self._floor + _FLAGGED
            self._record_many(WRITE, piece)
            for entry in piece:
                if entry.rank >= flagged:
                    self._flags[(hash((entry.address,)) & _KEY) % _FLAGS] = 1
            if len(self._kinds) >= self._due:
                self._tidy()

    def dropped(self, address: Address, rank: int) -> None:
        """The value of the key is gone."""
        self.record(DROP, address, rank, 0)

    def cleared(self) -> None:
        """Every value is gone."""
        if self._kinds:
            self._note(CLEARED)

    def record(self, kind: int, address: Address, rank: int, cost: int) -> None:
        """Something happened with a key, of a kind that has a cost: ``MISS``, ``WRITE`` or ``DROP``. Of a miss, which is a
        lookup that the file answered, the cost is 0 where the policy isn't offered the value.
        """
        if kind == MISS:
            self._missed += 1
        if self._credit < _MOST_CREDIT:
            self._credit += _MISS_PAYS
        floor = self._floor
        if rank < floor:
            return
        # Of a tuple, since the hash of an integer is the number itself, and numbers have patterns.
        key = hash((address,)) & _KEY
        if rank >= floor + _FLAGGED:
            self._flags[key % _FLAGS] = 1
        kinds = self._kinds
        kinds.append(kind | rank)
        self._keys.append(key)
        self._costs.append(cost if cost <= _EXACT else _short(cost))
        if len(kinds) >= self._due:
            self._tidy()

    def _note(self, kind: int, key: int = 0, cost: int = 0) -> None:
        """Record what is about no key, and so stays while keys are given up."""
        self._kinds.append(kind | MOST_RANK)
        self._keys.append(min(key, _KEY))
        self._costs.append(_short(cost))

    # -- keeping it small ----------------------------------------------------------------------------------------

    def _mark(self) -> None:
        """Note how many lookups the records since the last mark stand for."""
        absent = self._absent()
        self._note(FOUND, self._hit + self._missed, self._missed)
        self._note(ABSENT, absent - self._absent_before)
        self._hit = self._missed = 0
        self._absent_before = absent

    def _tidy(self) -> None:
        """Mark, so that what comes before can be forgotten, and make room where there is too little."""
        self._mark()
        if not self._observing:
            self._note(PAUSED)
        while len(self._kinds) > _FULL:
            # Fewer keys over a longer time rather than more over a shorter one, down to what still makes a sample.
            if self._flags.count(1) / rate(_FLAGGED) > _MANY_KEYS and self._held() * rate(self._floor) > _FEW_HELD:
                self._give_up_keys()
            else:
                self._forget_oldest()
        self._due = len(self._kinds) + _MARKED_EVERY

    def _give_up_keys(self) -> None:
        self._floor = floor = self._floor + RANK
        kept = bytes(map(floor.__le__, self._kinds))
        for column in (self._kinds, self._keys, self._costs):
            end = 0
            # Piece by piece and in place, so that it doesn't take twice the room for a moment.
            for begin in range(0, len(kept), _MARKED_EVERY):
                piece = slice(begin, begin + _MARKED_EVERY)
                left = array(column.typecode, compress(column[piece], kept[piece]))
                column[end : end + len(left)] = left
                end += len(left)
            del column[end:]
        self._flags = bytearray(_FLAGS)
        for key in compress(self._keys, map((floor + _FLAGGED).__le__, self._kinds)):
            self._flags[key % _FLAGS] = 1

    def _forget_oldest(self) -> None:
        self._complete = False
        # From a mark on, so that what is left is counted.
        end = self._kinds.index(ABSENT | MOST_RANK, len(self._kinds) // 4) + 1
        for column in (self._kinds, self._keys, self._costs):
            del column[:end]
        self._flags = bytearray(_FLAGS)

    def traffic(self) -> Traffic:
        """The records so far."""
        kinds, keys = self._kinds[:], self._keys[:]
        costs = array("Q", map(_long, self._costs))
        kinds.extend((FOUND, ABSENT))
        keys.extend((min(self._hit + self._missed, _KEY), min(self._absent() - self._absent_before, _KEY)))
        costs.extend((self._missed, 0))
        return Traffic(kinds, keys, costs, rate(self._floor), self._complete)


def _short(number: int) -> int:
    """A number of up to 47 bits in 16: as it is where 15 will do, otherwise to 11 bits of precision, and how many follow."""
    if number <= _EXACT:
        return number
    bits = number.bit_length()
    return 1 << 15 | bits - 16 << 10 | number >> bits - 11 & 0x3FF


def _long(short: int) -> int:
    """The number in the middle of those that ``_short`` makes this of."""
    if short <= _EXACT:
        return short
    following = (short >> 10 & 0x1F) + 5
    return (0x400 | short & 0x3FF) << following | 1 << following - 1
