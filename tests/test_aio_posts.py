"""What tasks write: together in one commit, acknowledged when durable, and once, whoever is cancelled when."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

import pytest

import kvstore
import kvstore.aio
from tests import loops
from tests.loops import commits, commits_held, settled, writers_waiting
from tests.tiers import assert_memory_is_true


class Odd:
    """A type that can be stored and not be read."""


@pytest.fixture
def run():
    with loops.running() as run:
        yield run


@pytest.fixture
def store(store_path, run):
    with loops.open_in(run, store_path) as store:
        yield store


@pytest.fixture
def other(store_path, store):
    """A handle of the same process, for threads."""
    with kvstore.open(store_path, durability="none") as other:
        yield other


# -- writes share commits --------------------------------------------------------------------------


def test_tasks_that_write_at_one_time_share_a_commit(store, other, run):
    async def main():
        await store.set("a", 0)
        before = commits(store)
        with writers_waiting(other):
            tasks = [asyncio.create_task(store.set(number, number)) for number in range(256)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert commits(store) == before + 1
        assert await store.count() == 257

    run(main())


def test_the_loop_is_called_once_for_all_the_writes_of_a_commit(store, other, run, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        call = loop.call_soon_threadsafe
        tasks = []
        with writers_waiting(other):
            tasks = [asyncio.create_task(store.set(number, number)) for number in range(100)]
            await asyncio.sleep(0)
            monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *a: (calls.append(a), call(*a)))
        await asyncio.gather(*tasks)
        assert len(calls) == 1

    run(main())


def test_nothing_is_acknowledged_before_it_is_durable(store, run, monkeypatch):
    async def main():
        with commits_held(monkeypatch) as (reached, go_on):
            tasks = [asyncio.create_task(store.set(number, number)) for number in range(20)]
            await settled(reached.is_set)
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in tasks)
            go_on.set()
            await asyncio.gather(*tasks)

    run(main())


def test_ones_error_is_ones_own(store, other, run):
    async def main():
        await store.set("text", "no number")
        with writers_waiting(other):
            good = [asyncio.create_task(store.set(number, number)) for number in range(10)]
            bad = [asyncio.create_task(store.incr("text")), asyncio.create_task(store.pop("none"))]
            await asyncio.sleep(0)
        await asyncio.gather(*good)
        errors = await asyncio.gather(*bad, return_exceptions=True)
        assert [type(error) for error in errors] == [TypeError, KeyError]
        assert await store.count() == 11

    run(main())


@pytest.mark.parametrize("ending", [False, True], ids=["", "with records that end"])
def test_writes_of_all_kinds_that_share_a_commit_are_done_in_the_order_in_which_they_came(
    store, store_path, other, run, ending
):
    async def main():
        space = store.namespace("n")
        await store.set("old", 0, ttl=1_000 if ending else None)
        before = commits(store)
        calls = [
            store.set("a", 1),
            store.set("a", 2),
            space.set("a", 3),
            store.set("old", 1),
            store.delete("a"),
            store.set("b", 4),
            space.set("a", [5]),
            store.add("b", 6),
            store.set("b", 7, ttl=1_000),
            store.set("c", 8, ttl=1_000),
            store.set("c", 9),
        ]
        with writers_waiting(other):
            tasks = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0)
        done = await asyncio.gather(*tasks)
        assert commits(store) == before + 1
        assert [one for one in done if one is not None] == [True, False]
        assert dict(other.items()) == {"b": 7, "c": 9, "old": 1}
        assert dict(other.namespace("n").items()) == {"a": [5]}
        assert [other.ttl(key) is None for key in ("b", "c", "old")] == [False, True, True]
        assert other.verify().ok

    run(main())
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        assert_memory_is_true(other, fresh)


def test_a_batch_that_is_too_large_refuses_what_does_not_fit_and_no_more(store_path, run):
    async def main():
        async with kvstore.aio.open(store_path, durability="none", max_size=2**20) as store:
            writes = (store.set(number, b"x" * (2**20 if number == 3 else 100)) for number in range(10))
            done = await asyncio.gather(*writes, return_exceptions=True)
            assert [type(one) for one in done] == [
                kvstore.StoreFullError if number == 3 else type(None) for number in range(10)
            ]

    run(main())


def test_a_store_closes_after_a_write_for_which_no_thread_could_be_started(store_path, run, monkeypatch):
    def refuse(thread, start=threading.Thread.start):
        if thread.name == "kvstore-commit":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main():
        store = await loops.opened(store_path)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="thread"):
                await store.set("a", 1)
        await store.set("b", 2)
        await store.close()

    run(main())
    with kvstore.open(store_path) as store:
        assert dict(store) == {"b": 2}


def test_a_write_that_raises_what_is_no_exception_is_refused_and_others_go_on(store, run):
    def decode(_):
        raise SystemExit

    kvstore.register(Odd, "odd, of test_aio_posts", lambda _: None, decode)

    async def main():
        await store.set("odd", Odd())
        with pytest.raises(kvstore.TransactionError):
            await store.pop("odd")
        await store.set("a", 1)
        assert await store.get("a") == 1

    run(main())


def test_a_store_opened_for_reading_refuses_writes(store_path, run):
    async def main():
        async with kvstore.aio.open(store_path, durability="none") as store:
            await store.set("a", 1)
        async with kvstore.aio.open(store_path, readonly=True) as store:
            assert await store.get("a") == 1
            for write in (store.set("a", 2), store.get_or_set("b", int), store.expire(), store.clear()):
                with pytest.raises(kvstore.ReadOnlyError):
                    await write

    run(main())


# -- cancellation ----------------------------------------------------------------------------------


def test_a_write_cancelled_while_it_waits_never_happens(store, other, run):
    async def main():
        with writers_waiting(other):
            cancelled = asyncio.create_task(store.set("a", 1))
            kept = asyncio.create_task(store.set("b", 1))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        await kept
        assert await store.get_many(["a", "b"]) == {"b": 1}

    run(main())


def test_a_write_cancelled_while_it_is_committed_happens_once(store, run, monkeypatch):
    async def main():
        with commits_held(monkeypatch) as (reached, go_on):
            task = asyncio.create_task(store.incr("n"))
            await settled(reached.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            await store.set("next", 1)
        assert await store.get("n") == 1

    run(main())


def test_whatever_is_cancelled_when_no_write_is_lost_or_doubled(store, store_path, run):
    attempts = 600

    async def main():
        rng = random.Random(7)
        acknowledged = 0

        async def count():
            nonlocal acknowledged
            await store.incr("n")
            acknowledged += 1

        async def count_in_transaction():
            nonlocal acknowledged
            async with store.transaction() as tx:
                await tx.incr("n")
            acknowledged += 1

        async def attempt(number):
            await asyncio.sleep(rng.random() / 50)
            task = asyncio.create_task(count_in_transaction() if number % 50 == 0 else count())
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() / 500)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        await asyncio.gather(*map(attempt, range(attempts)))
        await store.set("last", 1)
        with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
            assert acknowledged <= fresh["n"] <= attempts
            assert_memory_is_true(store._space, fresh)
        assert await store.get("n") == await store.incr("n", 0)

    run(main())
