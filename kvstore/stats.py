"""What a store has done, as frozen counters; an interval is a subtraction.

>>> before = store.stats()                                    # doctest: +SKIP
>>> serve_requests()                                          # doctest: +SKIP
>>> (store.stats() - before).hit_rate                         # doctest: +SKIP
0.93
"""

from __future__ import annotations

from kvstore.frozen import Frozen


class Counts(Frozen):
    """Counters of the memory tier since the store was opened. ``later - earlier`` is the interval."""

    hits: int = 0
    """Lookups that the memory tier answered."""
    misses: int = 0
    """Lookups that went to the file."""
    absent: int = 0
    """The misses that the file had nothing for."""
    insertions: int = 0
    """Entries taken into the memory tier."""
    evictions: int = 0
    """Entries that the policy removed to make room."""
    invalidations: int = 0
    """Entries removed because their key was written or deleted, by this process or another."""
    expirations: int = 0
    """Entries removed because their time was over."""
    bypassed: int = 0
    """Values that were not taken into the memory tier because one alone is larger than it."""

    @property
    def lookups(self) -> int:
        """``hits + misses``: one for each key that a ``get``, ``[]`` or ``get_many`` asked for."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float | None:
        """``hits / lookups``; None before the first lookup."""
        return self.hits / self.lookups if self.lookups else None

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(earlier, name) for name in Counts._fields))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts._fields))


class Stats(Counts, kw_only=True):
    """A store's counters, and its state at one moment: the memory tier's and the file's.

    ``later - earlier`` subtracts the counters and keeps the later state.
    """

    entries: int
    """Entries now in the memory tier."""
    memory_bytes: int
    """What those entries cost in RAM, in bytes: Python objects and bookkeeping included."""
    cache_size: int
    """The bound on ``memory_bytes``."""
    records: int
    """Records in the file, of all namespaces."""
    file_bytes: int
    """The file's size."""
    used_bytes: int
    """The part of the file that holds something."""
    reclaimable_bytes: int
    """The part that is free for later writes, and that ``compact()`` gives back."""
    oldest_reader_lag: int
    """How many commits the oldest open read transaction, of any process, is behind: what it keeps from being
    reused."""
    namespaces: dict[str, Counts]
    """The counters of each namespace that this handle has used; ``""`` is the default one."""

    @property
    def utilization(self) -> float | None:
        """``memory_bytes / cache_size``; None where the memory tier is off."""
        return self.memory_bytes / self.cache_size if self.cache_size else None

    def __sub__(self, earlier: Counts) -> Stats:
        """The interval between two moments of one store; ``TypeError`` for anything but ``Stats``."""
        if not isinstance(earlier, Stats):
            return NotImplemented
        counters = {name: getattr(self, name) - getattr(earlier, name) for name in Counts._fields}
        nothing = Counts()
        lines = {name: line - earlier.namespaces.get(name, nothing) for name, line in self.namespaces.items()}
        return self.replaced(**counters, namespaces=lines)
