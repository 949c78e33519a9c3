"""Lists and sets: what a step costs where there are many elements."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING

import lmdb
import msgpack

import kvstore
from bench.rows import Measurement, NotMeasurableError, row
from bench.timing import clock, compare, loop
from bench.workloads import MIB, TEXT, names
from bench.writes import COUNTERS, written
from kvstore import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ELEMENTS = 100_000
PUT = "py-lmdb put and commit of the same msgpack bytes, behind 100,000 others"


@contextmanager
def our_list(place: Path) -> Iterator[kvstore.Store]:
    """A store with a list of many texts."""
    with kvstore.open(place / "ours.kv") as store:
        store.list("k").extend([TEXT] * ELEMENTS)
        yield store


@contextmanager
def their_log(place: Path) -> Iterator[lmdb.Environment]:
    """What a user of py-lmdb would make of it: numbered keys, the next one put behind the last."""
    with lmdb.open(str(place / "theirs.mdb"), subdir=False, map_size=4096 * MIB, max_spare_txns=8) as environment:
        with environment.begin(write=True) as transaction:
            for number in range(ELEMENTS):
                transaction.put(number.to_bytes(8, "big"), msgpack.packb(TEXT))
        yield environment


def our_appends(store: kvstore.Store, count: int) -> Callable[[], None]:
    """``count`` durable appends, one commit each."""
    texts = store.list("k")

    def append() -> None:
        for _ in range(count):
            texts.append(TEXT)

    return append


def their_puts(environment: lmdb.Environment, count: int) -> Callable[[], None]:
    """``count`` durable puts, one commit each."""
    numbers = itertools.count(ELEMENTS)
    packed = msgpack.packb(TEXT)

    def put() -> None:
        for number in itertools.islice(numbers, count):
            with environment.begin(write=True) as transaction:
                transaction.put(number.to_bytes(8, "big"), packed)

    return put


@row("append to a list of 100,000, time", PUT, at_most=1.3)
def append(place: Path) -> Measurement:
    """Durable on both sides; the flushes of the disk are most of it."""
    with our_list(place) as store, their_log(place) as environment:
        return compare(
            clock(our_appends(store, 4), operations=4), clock(their_puts(environment, 4), operations=4), rounds=100
        )


@row("append to a list of 100,000, bytes written", PUT, at_most=1.5)
def append_bytes(place: Path) -> Measurement:
    """A tree of its own costs a page more: the main one says where its root is."""
    if not COUNTERS.exists():
        raise NotMeasurableError(f"{COUNTERS} is Linux's")
    with our_list(place) as store, their_log(place) as environment:
        return compare(
            written(our_appends(store, 100), operations=100),
            written(their_puts(environment, 100), operations=100),
            rounds=5,
            unit="B",
        )


@row("append to a list of 100,000, bytes written", "set of the same list as one value", at_most=0.01)
def append_or_rewrite(place: Path) -> Measurement:
    """What a list of the store's own is for."""
    if not COUNTERS.exists():
        raise NotMeasurableError(f"{COUNTERS} is Linux's")
    with our_list(place) as store:
        whole = list(store.list("k"))

        def rewrite() -> None:
            whole.append(TEXT)
            store["k"] = whole

        return compare(
            written(our_appends(store, 10), operations=10), written(rewrite, operations=1), rounds=5, unit="B"
        )


@row("`in` of a set of 100,000", "py-lmdb get of the same key", at_most=25)
def membership(place: Path) -> Measurement:
    """From the file on both sides, in a read transaction for each: ours reads the head of the set, and then the member."""
    asked = names(ELEMENTS)
    path = str(place / "theirs.mdb")
    with (
        kvstore.open(place / "ours.kv") as store,
        lmdb.open(path, subdir=False, map_size=4096 * MIB, max_spare_txns=8) as environment,
    ):
        members = store.set_of("k")
        members.update(asked)
        with environment.begin(write=True) as transaction:
            for name in asked:
                transaction.put(keys.encode(name), b"")
        wanted = asked[::97]
        return compare(
            loop("key in members", wanted, members=members),
            loop(
                "with begin() as transaction:\n        transaction.get(encode(key))",
                wanted,
                begin=environment.begin,
                encode=str.encode,
            ),
            rounds=100,
        )


ROWS = (append, append_bytes, append_or_rewrite, membership)
