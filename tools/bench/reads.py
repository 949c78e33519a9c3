"""Reads: hits against a bare cachetools cache and against py-lmdb, misses against py-lmdb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cachetools
import msgpack

from bench.rows import Limit, Measurement, Row, row
from bench.timing import compare, loop
from bench.workloads import EMBEDDING, RECORD, TEXT, copies, names, our_store, raw_lmdb
from kvstore import keys

if TYPE_CHECKING:
    from pathlib import Path

    import lmdb

    from bench.timing import Sample

ROUNDS = 61
LRU = "cachetools.LRUCache lookup, no lock"
LMDB = "py-lmdb begin + get + unpackb"


def lmdb_read(environment: lmdb.Environment, asked: list[str]) -> Sample:
    """What a user of py-lmdb writes to read one value; the key's bytes are at hand."""
    return loop(
        "with begin() as txn:\n        unpackb(txn.get(key))",
        [keys.encode(key) for key in asked],
        begin=environment.begin,
        unpackb=msgpack.unpackb,
    )


def hit_against_lru(asked: list[str], value: object, place: Path) -> Measurement:
    """Hits, nothing but hits: every key is in memory before the first round."""
    items = dict.fromkeys(names(1_000), value)
    bare: cachetools.LRUCache[str, object] = cachetools.LRUCache(maxsize=len(items))
    bare.update(items)
    with our_store(place, items) as store:
        store.get_many(items)
        before = store.stats()
        result = compare(loop("store[key]", asked, store=store), loop("cache[key]", asked, cache=bare), rounds=ROUNDS)
        if (store.stats() - before).misses:
            raise RuntimeError("a row of hits has measured misses")
    return result


@row("hit, 100-char str, 1,000 keys in turn", LRU, at_most=2.2)
def hit_many_keys(place: Path) -> Measurement:
    """The policy's order changes with each hit."""
    return hit_against_lru(copies(names(1_000)), TEXT, place)


@row("hit, 100-char str, one key", LRU, at_most=2.2)
def hit_one_key(place: Path) -> Measurement:
    """The hottest key of a skewed load."""
    return hit_against_lru(copies(names(1)) * 1_000, TEXT, place)


def hit_row(what: str, value: object, at_most: float) -> Row:
    """Hits on one kind of value, against reading it from py-lmdb."""

    def measure(place: Path) -> Measurement:
        items = dict.fromkeys(names(1_000), value)
        asked = copies(names(1_000))
        with our_store(place, items) as store, raw_lmdb(place, items) as environment:
            store.get_many(items)
            before = store.stats()
            result = compare(loop("store[key]", asked, store=store), lmdb_read(environment, asked), rounds=ROUNDS)
            if (store.stats() - before).misses:
                raise RuntimeError("a row of hits has measured misses")
        return result

    return Row(f"hit, {what}", LMDB, Limit(at_most=at_most), measure)


def miss_row(what: str, value: object, at_most: float) -> Row:
    """Misses on one kind of value, the memory tier turned off, against reading it from py-lmdb."""

    def measure(place: Path) -> Measurement:
        items = dict.fromkeys(names(1_000), value)
        asked = copies(names(1_000))
        with our_store(place, items, cache_size=0) as store, raw_lmdb(place, items) as environment:
            before = store.stats()
            result = compare(loop("store[key]", asked, store=store), lmdb_read(environment, asked), rounds=ROUNDS)
            if (store.stats() - before).hits:
                raise RuntimeError("a row of misses has measured hits")
        return result

    return Row(f"miss, tier off, {what}", LMDB, Limit(at_most=at_most), measure)


ROWS = (
    hit_many_keys,
    hit_one_key,
    hit_row("100-char str", TEXT, at_most=0.5),
    hit_row("4-key dict", RECORD, at_most=0.42),
    hit_row("list of 512 floats", EMBEDDING, at_most=0.22),
    miss_row("100-char str", TEXT, at_most=2.3),
    miss_row("4-key dict", RECORD, at_most=1.9),
)
