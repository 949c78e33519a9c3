"""What a memoized function has, however it is called: a place for its results, keys, counters, and ways to forget."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from kvstore import codec, keys
from kvstore.backends import Writing
from kvstore.cached import CachedSpace
from kvstore.errors import UnstorableValueError
from kvstore.frozen import Frozen
from kvstore.keys import Key
from kvstore.memo_call import Name
from kvstore.writing import Prepared, WritableSpace

DELETED_AT_ONCE: Final = 10_000
"""Records that one commit of ``clear`` deletes at the most, so that it holds up other writers for no longer."""

_REMEMBERED_AT_MOST: Final = 1_000
"""A batch of more results leaves the memory tier to what is hot, as with ``set_many``."""


class MemoStats(Frozen):
    """What a memoized function has done in this process. ``later - earlier`` is the interval.

    For a batch function everything is counted by the item.
    """

    hits: int = 0
    """Calls answered by a stored result, one that another thread, task or process was just computing included."""
    misses: int = 0
    """Calls for which the function ran here, whether it returned or raised."""
    unstored: int = 0
    """Of those, results that were returned and not stored: the store was read-only, full, or busy for too long."""
    seconds_computed: float = 0.0
    """Seconds that the function has run here."""
    seconds_saved: float = 0.0
    """``hits`` times the mean seconds of all computations of this version, of whatever process, since its records began."""

    @property
    def calls(self) -> int:
        """``hits + misses``."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float | None:
        """``hits / calls``; None before the first call."""
        return self.hits / self.calls if self.calls else None

    def __sub__(self, earlier: MemoStats) -> MemoStats:
        return MemoStats(*(getattr(self, name) - getattr(earlier, name) for name in MemoStats._fields))


class Totals(Frozen):
    """What the computations of one version have taken, by all processes: kept in the store, beside the results.

    ``empty`` is what a batch function gives for an empty batch, and so says which kind of batch it gives; None for others.
    """

    computed: int = 0
    seconds: float = 0.0
    empty: Any = None

    def added(self, computed: int, seconds: float, empty: Any) -> Totals:
        """With so many computations more."""
        return Totals(self.computed + computed, self.seconds + seconds, empty)

    @classmethod
    def of(cls, stored: Any) -> Totals:
        """Of a record; nothing, where that is no such one."""
        try:
            return cls(int(stored["computed"]), float(stored["seconds"]), stored["empty"])
        except (TypeError, LookupError, ValueError):
            return cls()


class Counters:
    """The counters of one memoized function while they count."""

    def __init__(self) -> None:
        self.start_over_in_child()
        _counting.add(self)
        self._quick = itertools.count()
        self.hit: Final = self._quick.__next__
        """Counts a hit, without a lock: one step of C."""
        self._looks = 0
        self._hits = self._misses = self._unstored = 0
        self._seconds = 0.0

    def start_over_in_child(self) -> None:
        """Whoever had the lock is the parent's."""
        self._lock = threading.Lock()

    def add(self, *, hits: int = 0, misses: int = 0, unstored: int = 0, seconds: float = 0.0) -> None:
        """Count more than a quick hit."""
        with self._lock:
            self._hits += hits
            self._misses += misses
            self._unstored += unstored
            self._seconds += seconds

    def stats(self, totals: Totals) -> MemoStats:
        """The counters now; the saved seconds by what the computations took."""
        with self._lock:
            # Looking is a step, too.
            hits = self._hits + self.hit() - self._looks
            self._looks += 1
            saved = hits * totals.seconds / totals.computed if totals.computed else 0.0
            return MemoStats(hits, self._misses, self._unstored, self._seconds, saved)


class Results:
    """The stored results of one function, and what it has done. A ``writer`` is the space, or the face that a loop has of it."""

    def __init__(self, space: CachedSpace, name: Name, ttl: float | None) -> None:
        self.space: Final = space
        self.name: Final = name
        self.ttl: Final = ttl
        self.counters: Final = Counters()

    def totals(self) -> Totals:
        """What is known of this version's computations; not a lookup."""
        return Totals.of(WritableSpace.get(self.space, self.name.key(), None))

    def stats(self) -> MemoStats:
        """The counters since the function was memoized in this process."""
        return self.counters.stats(self.totals())

    # -- keeping results -----------------------------------------------------------------------------------------

    def prepared(
        self, writer: CachedSpace, made: Sequence[tuple[bytes, Key, Any]]
    ) -> Iterator[Prepared | UnstorableValueError]:
        """The records of computed results, by encoded keys and keys; an error in the place of one that can't be stored."""
        remember = len(made) <= _REMEMBERED_AT_MOST
        for encoded, key, value in made:
            try:
                yield writer._prepare(key, value, self.ttl, remember=remember, encoded=encoded)
            except UnstorableValueError as error:
                error.add_note(f"it is a result of the memoized function {self.name.name}")
                yield error

    def keep(
        self, writer: CachedSpace, records: list[Prepared], seconds: float, empty: Any
    ) -> Callable[[Writing], None]:
        """What to do in a transaction to store the records, and add up what they took."""
        key = self.name.key()
        encoded = keys.encode(key)

        def apply(txn: Writing) -> None:
            for record in records:
                writer._put(txn, record)
            totals = Totals.of(writer._read(txn, encoded)).added(len(records), seconds, empty)
            writer._put(txn, writer._prepare(key, vars(totals), None, remember=False))

        return apply

    def result_of(self, record: Prepared) -> Any:
        """What a hit would give for the record: the result as it is stored, and the caller's own."""
        payload, extended, _ = self.space._open(record.encoded, record.raw)
        return codec.decode(payload, extended)

    # -- forgetting ----------------------------------------------------------------------------------------------

    def clear(self) -> int:
        """Delete every record of the function, of whatever version; how many results there were."""
        return self._delete((((self.name.name,), None),))

    def drop_old_versions(self) -> int:
        """Delete the records of every version but this one; how many results there were."""
        name, version = self.name.name, self.name.version()
        following: Key = version + "\0" if type(version) is str else version + 1  # type: ignore[operator]
        return self._delete((((name,), (name, version)), ((name, following), None)))

    def _delete(self, spans: Iterable[tuple[Key, Key | None]]) -> int:
        deleted = 0
        for start, stop in spans:
            while True:
                ours = self.space.scan_keys(prefix=(self.name.name,), start=start, stop=stop, limit=DELETED_AT_ONCE)
                found = list(ours)
                if not found:
                    break
                self.space.delete_many(found)
                # The totals of a version are a record without a digest.
                deleted += sum(len(key) > 2 for key in found if type(key) is tuple)
        return deleted


_counting: weakref.WeakSet[Counters] = weakref.WeakSet()


def _start_over_in_child() -> None:
    for counters in list(_counting):
        counters.start_over_in_child()


os.register_at_fork(after_in_child=_start_over_in_child)


def another(value: Any) -> Any:
    """A value for a second caller: the same one where nobody can change it, else a copy."""
    return value if type(value) in codec.IMMUTABLE else codec.decode(*codec.encode(value))
