"""What the exporters share: which stores they tell of, under which names, and what their figures mean."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kvstore.errors import KvstoreError
from kvstore.store import Store

if TYPE_CHECKING:
    from kvstore import aio
    from kvstore.stats import Stats

COUNTERS: Final = {
    "lookups": "Keys that were asked for, in memory or then in the file.",
    "hits": "Lookups that the memory tier answered.",
    "absent": "Lookups that neither the memory tier nor the file had anything for.",
    "insertions": "Entries taken into the memory tier.",
    "evictions": "Entries that the policy removed from the memory tier to make room.",
    "invalidations": "Entries removed from the memory tier because their key was written or deleted, by whatever process.",
    "expirations": "Entries removed from the memory tier because their time was over.",
    "bypassed": "Values not taken into the memory tier because one alone is larger than it.",
}
"""What is counted in each namespace since the store was opened: the fields of ``Counts``, but lookups in place of misses,
so that a hit rate is one counter by another.
"""

GAUGES: Final = {
    "entries": "Entries in the memory tier.",
    "memory_bytes": "What the memory tier costs in RAM, Python objects and bookkeeping included.",
    "cache_size": "The bound on what the memory tier may cost in RAM.",
    "records": "Records in the file, of all namespaces.",
    "file_bytes": "Size of the file.",
    "used_bytes": "The part of the file that holds something.",
    "reclaimable_bytes": "The part of the file that is free for later writes.",
    "oldest_reader_lag": "How many commits the oldest open read transaction, of any process, is behind.",
}
"""The state of a store and its file: the other fields of ``Stats``."""


class Observed:
    """The stores that an exporter tells of, each under a name of its own. Safe to use from every thread.

    They are held weakly, and one that is closed, or whose file is gone, is passed over: what is exported lives as long as the
    process, and must neither keep a store open nor fail with it, other stores and the application's own figures included.
    """

    def __init__(self) -> None:
        self._stores: dict[str, weakref.ref[Store]] = {}
        self._adding = threading.Lock()

    def add(self, store: Store | aio.Store, name: str | None) -> None:
        """Tell of one more store; ``name`` is by default the path of its file.

        Raises ``TypeError`` for what is no store, and ``ValueError`` where another open store has that name, or it is no
        valid Unicode.
        """
        handle = store if isinstance(store, Store) else getattr(store, "_space", None)
        if not isinstance(handle, Store):
            raise TypeError(
                f"a store is wanted, as kvstore.open or kvstore.aio.open gives it, not {type(store).__name__}; "
                "a namespace is told of with its store"
            )
        wanted = handle._engine.identity if name is None else name
        if not _is_unicode(wanted):
            raise ValueError(
                f"the name {wanted!r} has a lone surrogate, which no exporter can carry; use valid Unicode"
            )
        with self._adding:
            stores = {known: reference for known, reference in self._stores.items() if _stats(reference) is not None}
            if wanted in stores and stores[wanted]() is not handle:
                raise ValueError(f"another open store is named {wanted!r} already; give this one a name of its own")
            stores[wanted] = weakref.ref(handle)
            # Replaced, not changed: who reads takes no lock, and so none that a fork could leave locked.
            self._stores = stores

    def stats(self) -> Iterator[tuple[str, Stats]]:
        """Name and statistics of each store that can be used."""
        for name, reference in self._stores.items():
            stats = _stats(reference)
            if stats is not None:
                yield name, stats


def _stats(reference: weakref.ref[Store]) -> Stats | None:
    """None where the store is closed, gone, or of no use to this process."""
    store = reference()
    try:
        return None if store is None else store.stats()
    except (KvstoreError, OSError):
        return None


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
