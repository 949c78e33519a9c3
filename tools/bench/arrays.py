"""Arrays: hits and misses against py-lmdb with ``numpy.frombuffer``, hits against other caches of computed arrays."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.rows import Measurement, NotMeasurableError, row
from bench.timing import compare, loop
from bench.workloads import copies, names, our_store, raw_lmdb
from kvstore import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.timing import Sample

ROUNDS = 61
LMDB = "py-lmdb get + np.frombuffer"


def library(name: str, extra: str = "bench") -> Any:
    """A library that a row compares with, or measures."""
    try:
        return import_module(name)
    except ImportError:
        raise NotMeasurableError(f"{name} is not installed; pip install 'tiered-kvstore[{extra}]'") from None


def embedding(length: int) -> Any:
    """A vector as a model computes it."""
    numpy = library("numpy")
    return numpy.random.default_rng(7).random(length, numpy.float32)


def packed(_: bytes, value: Any) -> bytes:
    """What a user of py-lmdb would store: the items alone, as he knows what they are."""
    items: bytes = value.tobytes()
    return items


def against_lmdb(place: Path, length: int, *, count: int = 1_000, **options: Any) -> Measurement:
    """Our reads of arrays in turn, against what a user of py-lmdb writes to read them."""
    numpy = library("numpy")
    items = dict.fromkeys(names(count), embedding(length))
    asked = copies(names(count))
    with our_store(place, items, **options) as store, raw_lmdb(place, items, pack=packed) as environment:
        store.get_many(items)
        theirs = loop(
            "with begin() as txn:\n        frombuffer(txn.get(key), dtype)",
            [keys.encode(key) for key in asked],
            begin=environment.begin,
            frombuffer=numpy.frombuffer,
            dtype=numpy.dtype(numpy.float32),
        )
        before = store.stats()
        result = compare(loop("store[key]", asked, store=store), theirs, rounds=ROUNDS)
        change = store.stats() - before
        if change.hits and change.misses:
            raise RuntimeError("a row of hits or misses has measured both")
    return result


@row("hit, 512-float32 array", LMDB, at_most=0.5)
def hit(place: Path) -> Measurement:
    """A hit hands out the array that there is; py-lmdb copies the bytes."""
    return against_lmdb(place, 512)


@row("miss, tier off, 2,048-float32 array", LMDB, at_most=5.5)
def miss(place: Path) -> Measurement:
    """The array is a view of the record, which is the one copy of its bytes."""
    return against_lmdb(place, 2_048, cache_size=0)


@row("miss, tier off, 1 MiB array", LMDB, at_most=2.5)
def miss_large(place: Path) -> Measurement:
    """The bytes are read once more, for the checksum, and not copied once more."""
    return against_lmdb(place, 2**18, count=20, cache_size=0)


def times_as_fast(place: Path, cached: Callable[[str], Any]) -> Measurement:
    """Hits a second, ours to those of another cache of the same arrays, all of which are there."""
    asked = copies(names(20))
    items = {key: embedding(512) for key in asked}
    with our_store(place, items) as store:
        for key in asked:
            if not (cached(key) == store[key]).all():
                raise RuntimeError("the caches hold different arrays")
        ours = loop("store[key]", asked, store=store)
        theirs = loop("cached(key)", asked, cached=cached)
        return compare(per_second(ours), per_second(theirs), rounds=25, unit="/s")


def per_second(sample: Sample) -> Sample:
    """How often a second, of how many seconds each time."""
    return lambda: 1 / sample()


@row("hits a second, 512-float32 array", "joblib.Memory", at_least=50)
def hit_against_joblib(place: Path) -> Measurement:
    """Its hit hashes the arguments, looks for a file, and unpickles it."""
    memory = library("joblib").Memory(place / "joblib", verbose=0)
    return times_as_fast(place, memory.cache(compute))


@row("hits a second, 512-float32 array", "diskcache.Cache.memoize", at_least=20)
def hit_against_diskcache(place: Path) -> Measurement:
    """Its hit asks SQLite, and unpickles."""
    with closing(library("diskcache").Cache(place / "diskcache")) as cache:
        return times_as_fast(place, cache.memoize()(compute))


def compute(key: str) -> Any:  # by its name both caches find what they have of it
    """What is cached: the same vector whatever the key."""
    return embedding(512)


ROWS = (hit, hit_against_joblib, hit_against_diskcache, miss, miss_large)
