"""Many writers at once, and what processes that share a store cost each other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import kvstore
import kvstore.aio
from bench.children import environment
from bench.rows import Measurement, row
from bench.timing import compare, rate
from bench.workloads import TEXT, copies, names, our_store, raw_lmdb, their_commits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE_WRITER = "one py-lmdb writer, put and commit"
TASKS, THREADS = 256, 32
TIMES = 32
"""How often each task or thread writes in a round."""


@row(f"{TASKS} asyncio tasks, durable set", ONE_WRITER, at_least=15)
def writing_tasks(place: Path) -> Measurement:
    """Each task sets a key of its own again and again, as the sessions of a server do; the one writer the same keys."""
    sessions = names(TASKS)

    async def session(store: kvstore.aio.Store, key: str) -> None:
        for _ in range(TIMES):
            await store.set(key, TEXT)

    async def all_of(store: kvstore.aio.Store) -> None:
        await asyncio.gather(*(session(store, key) for key in sessions))

    async def opened() -> kvstore.aio.Store:
        return await kvstore.aio.open(place / "ours.kv")

    with raw_lmdb(place, {}) as lmdb_environment, asyncio.Runner() as runner:
        store = runner.run(opened())
        try:
            return compare(
                rate(lambda: runner.run(all_of(store)), operations=TASKS * TIMES),
                rate(their_commits(lmdb_environment, sessions, 64), operations=64),
                rounds=31,
                unit="/s",
            )
        finally:
            runner.run(store.close())


@row(f"{THREADS} threads, durable set", ONE_WRITER, at_least=2.5)
def writing_threads(place: Path) -> Measurement:
    """As the tasks, in threads that are started beforehand."""
    sessions = names(THREADS)

    def session(store: kvstore.Store, key: str) -> None:
        for _ in range(TIMES):
            store.set(key, TEXT)

    with (
        raw_lmdb(place, {}) as lmdb_environment,
        our_store(place, {}) as store,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        return compare(
            rate(lambda: list(pool.map(session, [store] * THREADS, sessions)), operations=THREADS * TIMES),
            rate(their_commits(lmdb_environment, sessions, 64), operations=64),
            rounds=31,
            unit="/s",
        )


OTHER_PROCESS = """
import sys, kvstore
with kvstore.open(sys.argv[1], durability="none", cache_size=0) as store:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(1_000):
        store.set(("other", number), number)
"""


@row("hit rate while another process commits 1,000 other keys", "the same reads, alone", at_least=0.99)
def hit_rate_beside_a_writer(place: Path) -> Measurement:
    """Another process's commit must cost a memory tier the keys that it changed, and no more."""
    items = dict.fromkeys(names(1_000), TEXT)
    asked = copies(names(1_000))
    with our_store(place, items, durability="none") as store:

        def hit_rate(while_: Callable[[], bool]) -> float:
            before = store.stats()
            while True:
                goes_on = while_()
                for key in asked:
                    store.get(key)
                if not goes_on:
                    return (store.stats() - before).hit_rate or 0.0

        def beside_a_writer() -> float:
            with subprocess.Popen(
                [sys.executable, "-c", OTHER_PROCESS, place / "ours.kv"],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as other:
                assert other.stdin is not None  # noqa: S101  # it is a pipe
                assert other.stdout is not None  # noqa: S101
                other.stdout.readline()
                other.stdin.write("go\n")
                other.stdin.close()
                return hit_rate(lambda: other.poll() is None)

        return compare(beside_a_writer, lambda: hit_rate(lambda: False), rounds=5, warmup=1, unit="")


ROWS = (writing_tasks, writing_threads, hit_rate_beside_a_writer)
