"""What kvstore must reach against its peers, as rows with limits; both sides by the adapters of the whole comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.arrays import per_second
from bench.rows import Limit, Measurement, Row
from bench.timing import compare, loop, rate
from bench.workloads import TEXT, copies
from bench_peers.contenders import DISKCACHE, DURABLE, KVSTORE, LMDB, REDIS, ROCKSDICT
from bench_peers.measuring import Standing
from bench_peers.peer import SMALL, Contender
from bench_peers.sizes import HOT
from bench_peers.workloads import WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.timing import Sample

FEW = 10_000
WRITERS = (8, 32)
WRITE = next(workload for workload in WORKLOADS if workload.name == "write")


def hot_read(theirs: Contender, at_least: float) -> Row:
    """Reads of 1,000 keys that ours has in memory."""

    def measure(place: Path) -> Measurement:
        ours, other = Standing(KVSTORE, place / "ours", SMALL), Standing(theirs, place / "theirs", SMALL)
        try:
            asked = copies(ours.keys[:HOT])
            sides = [loop("get(key)", asked, get=standing.peer.get) for standing in (ours, other)]
            return compare(*map(per_second, sides), rounds=31, unit="/s")
        finally:
            other.peer.close()
            ours.peer.close()

    return Row("hot reads a second, 100-char str", theirs.name, Limit(at_least=at_least), measure)


def durable_write(theirs: Contender, at_least: float, *, writers: int) -> Row:
    """Writes of single records, each flushed before it returns on both sides."""

    def measure(place: Path) -> Measurement:
        ours, other = Standing(KVSTORE, place / "ours", SMALL), Standing(theirs, place / "theirs", SMALL)
        try:
            if writers == 1:
                sides: list[Sample] = [rate(writes(standing, 8), operations=8) for standing in (ours, other)]
                return compare(*sides, rounds=100, unit="/s")
            together = [standing.threaded(WRITE, writers) for standing in (ours, other)]
            return compare(lambda: together[0](0.2), lambda: together[1](0.2), rounds=15, warmup=1, unit="/s")
        finally:
            other.peer.close()
            ours.peer.close()

    what = "durable writes a second" if writers == 1 else f"durable writes a second, {writers} threads"
    return Row(what, theirs.name, Limit(at_least=at_least), measure)


class writes:  # noqa: N801  # called as a function; it goes on where it was
    """``count`` writes of one record each, of the keys in turn."""

    def __init__(self, standing: Standing, count: int) -> None:
        self._put, self._keys, self._count, self._at = standing.peer.set, standing.keys, count, 0

    def __call__(self) -> None:
        at, put = self._at, self._put
        for key in self._keys[at : at + self._count]:
            put(key, TEXT)
        self._at = (at + self._count) % (len(self._keys) - self._count)


def latency(many: int) -> Row:
    """The same number of hot keys in a large store and in a small one."""

    def measure(place: Path) -> Measurement:
        large = Standing(KVSTORE, place / "large", SMALL, records=many)
        small = Standing(KVSTORE, place / "small", SMALL, records=FEW)
        try:
            sides = [
                loop("get(key)", copies(standing.keys[:: len(standing.keys) // HOT][:HOT]), get=standing.peer.get)
                for standing in (large, small)
            ]
            return compare(*sides, rounds=61)
        finally:
            small.peer.close()
            large.peer.close()

    return Row(f"hot read, {many:,} records", f"hot read, {FEW:,} records", Limit(at_most=2), measure)


def rows(many: int) -> list[Row]:
    """All targets; the last at ``many`` records."""
    return [
        hot_read(DISKCACHE, 20),
        hot_read(ROCKSDICT, 3),
        hot_read(REDIS, 80),
        durable_write(LMDB, 0.85, writers=1),
        *(
            durable_write(theirs, 1, writers=writers)
            for writers in WRITERS
            for theirs in DURABLE
            if theirs is not KVSTORE
        ),
        latency(many),
    ]
