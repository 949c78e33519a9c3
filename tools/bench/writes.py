"""Writes: one durable commit, the bytes it puts on the medium, and many records in one."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack

from bench.rows import Measurement, NotMeasurableError, row
from bench.timing import clock, compare
from bench.workloads import RECORD, TEXT, names, our_store, raw_lmdb, their_commits
from kvstore import codec, keys, record

if TYPE_CHECKING:
    from collections.abc import Callable

    import kvstore
    from bench.timing import Sample

COMMIT = "py-lmdb put and commit of the same msgpack bytes"
PROCESS = Path("/proc/self")
COUNTERS = PROCESS / "io"
RECORDS = 10_000


def asked_keys() -> list[str]:
    """Every key once, in an order without locality, the same for both sides."""
    asked = names(RECORDS)
    random.Random(3).shuffle(asked)
    return asked


def our_commits(store: kvstore.Store, count: int) -> Callable[[], None]:
    """``count`` durable sets, one commit each."""
    asked = itertools.cycle(asked_keys())

    def commits() -> None:
        for key in itertools.islice(asked, count):
            store.set(key, TEXT)

    return commits


def bytes_written(process: Path = PROCESS) -> int:
    """Bytes that this process, or another one, has handed to write calls, which are all that LMDB writes with."""
    counters = dict(line.split(": ") for line in (process / "io").read_text(encoding="ascii").splitlines())
    # Not write_bytes: it counts the whole of each page-cache folio that is touched, many pages large.
    return int(counters["wchar"])


def written(action: Callable[[], None], *, operations: int) -> Sample:
    """A sample of the bytes that one operation of ``action`` writes."""

    def sample() -> float:
        before = bytes_written()
        action()
        return (bytes_written() - before) / operations

    return sample


@row("durable set, time", COMMIT, at_most=1.15)
def durable_set(place: Path) -> Measurement:
    """The flushes of the disk are most of it, and differ a lot from one to the next: hence many rounds."""
    items = dict.fromkeys(names(RECORDS), TEXT)
    with our_store(place, items) as store, raw_lmdb(place, items) as environment:
        return compare(
            clock(our_commits(store, 4), operations=4),
            clock(their_commits(environment, asked_keys(), 4), operations=4),
            rounds=150,
        )


@row("durable set, bytes written", COMMIT, at_most=1.1)
def durable_set_bytes(place: Path) -> Measurement:
    """Pages of the B-tree, of the free list, and the meta page."""
    if not COUNTERS.exists():
        raise NotMeasurableError(f"{COUNTERS} is Linux's")
    items = dict.fromkeys(names(RECORDS), TEXT)
    with our_store(place, items) as store, raw_lmdb(place, items) as environment:
        return compare(
            written(our_commits(store, 100), operations=100),
            written(their_commits(environment, asked_keys(), 100), operations=100),
            rounds=5,
            unit="B",
        )


@row("durable set without a ttl, bytes written", "py-lmdb put and commit of the same record", at_most=1.05)
def durable_set_bytes_beside_the_record(place: Path) -> Measurement:
    """What a commit writes beside its record: nothing for an expiry index or a log of changes, where there is no ttl.

    The log of changes is in memory that the processes share, which nobody flushes.
    """
    if not COUNTERS.exists():
        raise NotMeasurableError(f"{COUNTERS} is Linux's")
    items = dict.fromkeys(names(RECORDS), TEXT)

    def same_record(encoded: bytes, value: object) -> bytes:
        return record.pack(encoded, *codec.encode(value), None)

    with our_store(place, items) as store, raw_lmdb(place, items, pack=same_record) as environment:
        return compare(
            written(our_commits(store, 100), operations=100),
            written(their_commits(environment, asked_keys(), 100, pack=same_record), operations=100),
            rounds=5,
            unit="B",
        )


@row("set_many of 20,000, 4-key dict", "py-lmdb puts in one transaction, packing included", at_most=2.2)
def set_many(place: Path) -> Measurement:
    """One transaction, durable on both sides; the keys' bytes are at hand for py-lmdb."""
    items = {key: {**RECORD, "score": number / 7} for number, key in enumerate(names(20_000))}
    encoded = {keys.encode(key): value for key, value in items.items()}

    with our_store(place, items) as store, raw_lmdb(place, items) as environment:

        def put_all() -> None:
            packb = msgpack.packb
            with environment.begin(write=True) as transaction:
                for key, value in encoded.items():
                    transaction.put(key, packb(value))

        return compare(
            clock(lambda: store.set_many(items), operations=len(items)),
            clock(put_all, operations=len(items)),
            rounds=25,
        )


ROWS = (durable_set, durable_set_bytes, durable_set_bytes_beside_the_record, set_many)
