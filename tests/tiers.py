"""Looking into both tiers at once: what memory has is what the file has, and its books balance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kvstore
from kvstore import keys
from kvstore.stats import Stats
from tests.strategies import same


def in_memory(store: kvstore.Store) -> Iterator[tuple[str, Any, Any]]:
    """Namespace, key and value of everything that the memory tier would answer a read with."""
    store._tier.catch_up()
    for space, front in list(store._tier._fronts.items()):
        for token, entry in list(front.items()):
            if entry.expires is not None and entry.expires <= store._clock() * 1000:
                continue
            key = keys.decode(token) if type(token) is bytes else token
            yield space, key, entry.value if entry.hand is None else entry.hand(entry.value)


def assert_memory_is_true(store: kvstore.Store, reader: kvstore.Store) -> None:
    """Every entry of the memory tier is what ``reader``, which has no memory, reads from the file."""
    assert reader.stats().cache_size == 0
    for space, key, value in in_memory(store):
        assert same(value, (reader.namespace(space) if space else reader)[key]), (space, key)


def assert_books_balance(store: kvstore.Store, *, has_clock: bool = False) -> Stats:
    """What came into memory and has not left is there, costs what it costs, and is within the bound.

    A policy with a clock may hold an entry for gone that the tier has not let go of yet.
    """
    stats = store.stats()
    tier = store._tier
    entries = [entry for front in tier._fronts.values() for entry in front.values()]
    assert stats.insertions - stats.evictions - stats.invalidations - stats.expirations == stats.entries
    assert stats.entries == len(entries)
    cost = sum(entry.cost for entry in entries)
    assert stats.memory_bytes <= cost if has_clock else stats.memory_bytes == cost
    assert cost <= stats.cache_size
    assert stats.hits + stats.misses == stats.lookups
    assert stats.absent <= stats.misses
    assert min(stats.evictions, stats.invalidations, stats.expirations, stats.bypassed, stats.absent) >= 0
    return stats
