"""A restart: how much of the hit rate the first reads after it have, on a skewed load."""

from __future__ import annotations

import itertools
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

import kvstore
from bench.rows import Measurement, row
from bench.timing import compare
from bench.workloads import MIB, TEXT, names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.timing import Sample

RECORDS = 100_000
CACHE_SIZE = 8 * MIB
READS = 1_000
APART_SECONDS = 0.001


def skewed_reads() -> Iterator[list[str]]:
    """A thousand keys at a time, Zipf-distributed with exponent 1; every such iterator gives the same."""
    order = random.Random(11)
    keys = names(RECORDS)
    order.shuffle(keys)
    weights = [*itertools.accumulate(1 / rank for rank in range(1, RECORDS + 1))]
    while True:
        yield order.choices(keys, cum_weights=weights, k=READS)


def hit_rate(store: kvstore.Store, asked: list[str], apart: float = 0) -> float:
    """The hit rate of these reads, so many seconds apart."""
    before = store.stats()
    for key in asked:
        store[key]
        if apart:
            time.sleep(apart)
    return (store.stats() - before).hit_rate or 0.0


def settled(path: Path) -> kvstore.Store:
    """A store whose memory tier holds what a long time of such reads has left in it; the list of it is saved."""
    with kvstore.open(path, durability="none", cache_size=0) as store:
        store.set_many(dict.fromkeys(names(RECORDS), TEXT))
    reads = skewed_reads()
    with kvstore.open(path, cache_size=CACHE_SIZE, warm=True) as store:
        for asked in itertools.islice(reads, 200):
            hit_rate(store, asked)
    store = kvstore.open(path, cache_size=CACHE_SIZE, warm=True)
    store.warmed()
    return store


def restarted(path: Path, *, warm: bool) -> Sample:
    """The hit rate of the first thousand reads, which begin as soon as the store is open."""
    reads = skewed_reads()

    def sample() -> float:
        with kvstore.open(path, cache_size=CACHE_SIZE, warm=warm) as store:
            return hit_rate(store, next(reads), APART_SECONDS)

    return sample


@row(f"hit rate of the first {READS:,} reads, 1 ms apart, after a warm restart", "steady state", at_least=0.95)
def warm_restart(place: Path) -> Measurement:
    """Nobody waits for the loading: it happens between the reads."""
    path = place / "store.kv"
    with closing(settled(path)) as steady:
        reads = skewed_reads()
        return compare(restarted(path, warm=True), lambda: hit_rate(steady, next(reads)), rounds=11, warmup=1, unit="")


@row(f"hit rate of the first {READS:,} reads, 1 ms apart, after a warm restart", "a cold restart", at_least=1.4)
def cold_restart(place: Path) -> Measurement:
    """What it is good for."""
    path = place / "store.kv"
    settled(path).close()
    return compare(restarted(path, warm=True), restarted(path, warm=False), rounds=5, warmup=1, unit="")


ROWS = (warm_restart, cold_restart)
