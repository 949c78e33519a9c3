"""The forecast: how far it is from what stores then measure, what its sample takes, and what a hit pays for it."""

from __future__ import annotations

import statistics
import tracemalloc
from typing import TYPE_CHECKING

import kvstore
from bench import loads
from bench.children import child
from bench.rows import Limit, Measurement, Row, row
from bench.timing import compare, loop
from bench.workloads import TEXT, copies, names, our_store
from kvstore.memory import BUFFER_LIMIT
from kvstore.memory_entry import EntryMaker
from kvstore.memory_sample import MISS, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

POLICIES = ("lru", "fifo", "lfu", "random")
SIZES = 8
KEYS, ACCESSES = 50_000, 120_000
MEAN_COST = 550


def error_row(name: str, make: Callable[[], Sequence[int]]) -> Row:
    """One load. A store of an eighth of what all keys take serves it, and says how others would have; then each of those
    serves it.
    """

    def measure(place: Path) -> Measurement:
        load = make()
        path = place / "ours.kv"
        loads.fill(path, set(load))
        everything = len(set(load)) * MEAN_COST
        sizes = [everything >> halvings for halvings in range(SIZES)]
        with kvstore.open(path, cache_size=everything // 8, durability="none") as store:
            loads.serve(store, load)
            forecast = store.forecast(sizes=sizes, policies=POLICIES)
        predicted, found = [], []
        for prediction in forecast:
            options = {"cache_size": prediction.size, "policy": prediction.policy}
            predicted.append(prediction.hit_rate or 0.0)
            found.append(loads.measured(path, load, **options).hit_rate or 0.0)
        error = statistics.fmean(abs(one - other) for one, other in zip(predicted, found, strict=True))
        return Measurement((100 * error,), statistics.fmean(predicted), statistics.fmean(found), "")

    what = f"forecast, {name}, {len(POLICIES)} policies, {SIZES} sizes: mean absolute error, in points"
    return Row(what, "hit rates then measured", Limit(at_most=1.5), measure)


def footprint() -> int:
    """The most bytes that a sample takes at any one time. Run in a fresh process, with tracing on."""
    maker = EntryMaker(0)
    entries = [maker.make("", key, None, b"", False, None) for key in range(KEYS)]
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    sample = Sample(lambda: len(entries), lambda: 0)
    for _ in range(3):
        for entry in entries:
            sample.record(MISS, entry.address, entry.rank, entry.cost)
        for begin in range(0, len(entries), BUFFER_LIMIT):
            sample.hits(entries[begin : begin + BUFFER_LIMIT])
    return tracemalloc.get_traced_memory()[1] - before


def stop_sampling(store: kvstore.Store) -> None:
    """Make of a store one that doesn't sample, to compare it with one that does."""
    sample = store._tier._sample
    for name in ("hits", "missed", "record", "dropped", "cleared"):
        setattr(sample, name, lambda *_: None)


@row(f"memory of a forecast's sample, {KEYS:,} keys", "1 MB", at_most=1)
def memory(place: Path) -> Measurement:
    """At its peak, while it makes room for more."""
    taken = int(child("-X", "tracemalloc", "-m", "bench.forecasting", bytecode=place))
    return Measurement((taken / 1e6,), taken, 1e6, "B")


@row("hit, 100-char str, 1,000 keys in turn, sampled for a forecast", "the same, not sampled", at_most=1.03)
def hit(place: Path) -> Measurement:
    """A round is as long as a stretch of recording and its pause together, so that none leaves either out."""
    asked = copies(names(1_000)) * 800
    items = dict.fromkeys(names(1_000), TEXT)
    (place / "other").mkdir()
    with our_store(place, items) as store, our_store(place / "other", items) as bare:
        stop_sampling(bare)
        return compare(loop("store[key]", asked, store=store), loop("store[key]", asked, store=bare), rounds=21)


ROWS = (
    error_row("CloudPhysics trace", lambda: loads.trace(loads.CLOUDPHYSICS, "lbn")),
    error_row("Zipf 0.8", lambda: loads.zipf(0.8, keys=KEYS, accesses=ACCESSES)),
    error_row("Zipf 1.1", lambda: loads.zipf(1.1, keys=KEYS, accesses=ACCESSES)),
    memory,
    hit,
)

if __name__ == "__main__":
    print(footprint())
