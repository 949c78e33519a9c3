"""What an application pays before its first read: the import, the opening, and ``len``."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import lmdb

import kvstore
from bench.children import child
from bench.rows import Measurement, row
from bench.timing import clock, compare, loop
from bench.workloads import names

if TYPE_CHECKING:
    from pathlib import Path

    from bench.timing import Sample

FEW, MANY = 1_000, 1_000_000


DEPENDENCIES = "lmdb, msgpack, cachetools, xxhash"


def import_time(statements: str, bytecode: Path) -> Sample:
    """Seconds that the statements take in a fresh interpreter, start-up of the interpreter not included."""
    code = f"from time import perf_counter\nbegin = perf_counter()\n{statements}\nprint(perf_counter() - begin)"
    return lambda: float(child("-c", code, bytecode=bytecode))


@row("import kvstore", f"import {DEPENDENCIES}", at_most=2)
def importing(place: Path) -> Measurement:
    """Each sample is a process of its own, with everything compiled and in the page cache."""
    return compare(
        import_time("import kvstore", place), import_time(f"import {DEPENDENCIES}", place), rounds=25, warmup=3
    )


@row("import kvstore, open and close", f"import {DEPENDENCIES}, open and close an environment", at_most=2.5)
def starting(place: Path) -> Measurement:
    """The backend is imported with the first store that is opened."""
    ours, theirs = place / "ours.kv", place / "theirs.lmdb"
    with kvstore.open(ours), lmdb.open(str(theirs), subdir=False):
        pass
    return compare(
        import_time(f"import kvstore\nkvstore.open({str(ours)!r}).close()", place),
        import_time(f"import {DEPENDENCIES}\nlmdb.open({str(theirs)!r}, subdir=False).close()", place),
        rounds=25,
        warmup=3,
    )


def filled(path: Path, count: int) -> Path:
    """A store of ``count`` small records, without the price of durability."""
    with kvstore.open(path, durability="none", cache_size=0) as store:
        store.set_many(dict.fromkeys(names(count), 1))
    return path


@row(f"open and close, {MANY:,} records", f"{FEW:,} records", at_most=1.25)
def opening(place: Path) -> Measurement:
    """The same work whatever the file holds."""
    many, few = filled(place / "many.kv", MANY), filled(place / "few.kv", FEW)

    def reopen(path: Path) -> Sample:
        return clock(lambda: kvstore.open(path, create=False).close())

    return compare(reopen(many), reopen(few), rounds=150, warmup=5)


@row(f"len(), {MANY:,} records", f"{FEW:,} records", at_most=1.25)
def counting(place: Path) -> Measurement:
    """A figure that the file keeps, not a scan."""
    many, few = filled(place / "many.kv", MANY), filled(place / "few.kv", FEW)
    with closing(kvstore.open(many)) as large, closing(kvstore.open(few)) as small:
        times = range(1_000)
        return compare(loop("len(store)", times, store=large), loop("len(store)", times, store=small), rounds=61)


ROWS = (importing, starting, opening, counting)
