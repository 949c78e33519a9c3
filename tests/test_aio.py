"""A store in event loops: what leaves the loop and what doesn't; any number of loops; opened and closed without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import pytest

import kvstore
import kvstore.aio
from tests import loops
from tests.loops import ITEMS, opened, own_threads, settled, writers_waiting
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS, until
from tests.tiers import assert_books_balance


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


# -- hits and misses -------------------------------------------------------------------------------


def ends_at_once(coroutine):
    """Whether it gives its result without giving the loop away."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    coroutine.close()
    return False


def test_a_hit_does_not_leave_the_loop_and_a_miss_does(store, other, run):
    async def main():
        await store.set_many(ITEMS)
        hits = [
            lambda: store.get("a"),
            lambda: store.get(("d", 1)),
            lambda: store.get_many(["a", "b"]),
            lambda: store.contains("a"),
            lambda: store.get_or_set("a", object),
        ]
        assert [ends_at_once(hit()) for hit in hits] == [True] * len(hits)
        await asyncio.to_thread(other.set_many, ITEMS)
        misses = [
            lambda: store.get("none"),
            lambda: store.get_many(["a", "none"]),
            lambda: store.contains("none"),
            lambda: store.ttl("a"),
        ]
        assert [ends_at_once(miss()) for miss in misses] == [False] * len(misses)

    run(main())


def test_each_lookup_is_counted_once_whoever_answers_it(store_path, run):
    async def main():
        async with kvstore.aio.open(store_path, durability="none", cache_size=20_000) as store:
            await store.set_many({number: [number] for number in range(200)})
            before = await store.stats()

            async def look_up(seed):
                rng = random.Random(seed)
                for _ in range(40):
                    key = rng.randrange(250)
                    assert await store.get(key) == ([key] if key < 200 else None)
                    await store.get_many([key, "none"])

            await asyncio.gather(*map(look_up, range(20)))
            assert (await store.stats() - before).lookups == 20 * 120
            assert_books_balance(store._space)

    run(main())


def test_what_another_process_writes_is_seen_by_the_next_read(store, store_path, run):
    async def main():
        await store.set("a", 1)
        assert await store.get("a") == 1
        with with_store(store_path, durability="none") as process:
            await asyncio.to_thread(process, "store['a'] = 2")
            assert await store.get("a") == 2

    run(main())


def test_the_care_of_the_file_is_here(store, run, tmp_path):
    async def main():
        await store.set_many(dict.fromkeys(range(1000), "x" * 100))
        assert await store.namespaces() == []
        await store.namespace("n").set("a", 1)
        assert await store.namespaces() == ["n"]
        assert await store.drop_namespace("n")
        await store.backup(tmp_path / "copy.kv")
        await store.clear()
        before = await store.stats()
        await store.compact()
        assert (await store.stats()).file_bytes < before.file_bytes
        assert not (await store.verify()).problems
        async with kvstore.aio.open(tmp_path / "copy.kv") as copy:
            assert await copy.count() == 1_000
            assert (await copy.namespace("n").stats()).lookups == 0

    run(main())


# -- loops, threads, forks -------------------------------------------------------------------------


def test_two_loops_in_two_threads_share_one_store(store, run):
    def in_another_loop():
        async def work():
            await asyncio.gather(*(store.incr("n") for _ in range(200)))
            async with store.transaction() as tx:
                await tx.incr("n")
            return await store.get_or_set("k", lambda: 1)

        return asyncio.run(work())

    async def main():
        elsewhere = asyncio.create_task(asyncio.to_thread(in_another_loop))
        await asyncio.gather(*(store.incr("n") for _ in range(200)))
        assert await elsewhere == 1
        assert await store.get("n") == 401

    run(main())


def test_a_loop_that_ends_with_writes_under_way_harms_nobody(store, other, run):
    def leave():
        async def post():
            tasks = [asyncio.create_task(store.set(("left", number), 1)) for number in range(10)]
            await asyncio.sleep(0)
            return tasks

        loop = asyncio.new_event_loop()
        tasks = loop.run_until_complete(post())
        loop.close()
        for task in tasks:
            task._log_destroy_pending = False

    async def main():
        with writers_waiting(other):
            await asyncio.to_thread(leave)
        await store.set("a", 1)
        assert await store.count() == 11

    run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_uses_the_store_in_a_loop_of_its_own(store, run):
    async def in_child():
        assert await store.get("a") == 1
        assert await store.get("none") is None
        await store.set("b", 2)
        async with store.transaction() as tx:
            await tx.incr("b")
        await store.close()

    def child():
        asyncio._set_running_loop(None)
        asyncio.run(asyncio.wait_for(in_child(), PATIENCE_SECONDS))

    async def main():
        await store.set("a", 1)
        # Threads, and a write that waits, are there at the time of the fork.
        await store.get("none")
        task = asyncio.create_task(store.set("c", 3))
        await asyncio.sleep(0)
        process = os.fork()
        if not process:
            status = 1
            try:
                child()
                status = 0
            finally:
                os._exit(status)
        await task
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, process, 0))[1]) == 0
        assert await store.get_many(["a", "b", "c"]) == {"a": 1, "b": 3, "c": 3}

    run(main())


# -- opening and closing ---------------------------------------------------------------------------


def test_no_thread_is_left_behind(store_path, run):
    async def main():
        async with kvstore.aio.open(store_path, durability="none") as store:
            await asyncio.gather(*(store.set(number, number) for number in range(50)))
            await asyncio.gather(*(store.get(("none", number)) for number in range(50)))
            async with store.transaction() as tx:
                await tx.set("a", 1)
            assert own_threads()
        assert not own_threads()

    run(main())
    assert not own_threads()


def test_closing_settles_the_writes_that_are_under_way_first(store_path, run):
    async def main():
        with kvstore.open(store_path, durability="none") as other:
            store = await opened(store_path)
            with writers_waiting(other):
                writes = [asyncio.create_task(store.incr("n")) for _ in range(50)]
                reads = [asyncio.create_task(store.get(("none", number))) for number in range(50)]
                await asyncio.sleep(0)
                closing = asyncio.create_task(store.close())
                await asyncio.sleep(0.05)
                assert not closing.done()
                with pytest.raises(kvstore.StoreClosedError):
                    await store.set("late", 1)
            await closing
            assert all(task.done() for task in (*writes, *reads))
            assert sorted(await asyncio.gather(*writes)) == list(range(1, 51))
            assert other["n"] == 50

    run(main())


def test_closing_goes_on_where_the_task_that_closes_is_cancelled(store_path, run):
    async def main():
        with kvstore.open(store_path, durability="none") as other:
            store = await opened(store_path)
            with writers_waiting(other):
                write = asyncio.create_task(store.set("a", 1))
                await asyncio.sleep(0)
                closing = asyncio.create_task(store.close())
                await asyncio.sleep(0.01)
                closing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await closing
            await write
            await store.close()
            assert other["a"] == 1
        assert not own_threads()

    run(main())


CALLS = {
    "get": lambda store: store.get("a"),
    "get_many": lambda store: store.get_many(["a", "b"]),
    "set": lambda store: store.set("a", 2),
    "incr": lambda store: store.incr("a"),
    "modify": lambda store: store.modify("a", str),
    "get_or_set": lambda store: store.get_or_set("a", int),
    "expire": lambda store: store.expire(),
    "count": lambda store: store.count(),
    "stats": lambda store: store.stats(),
    "scan": lambda store: anext(aiter(store.scan())),
    "transaction": lambda store: store.transaction().__aenter__(),
    "snapshot": lambda store: store.snapshot(),
    "namespace": lambda store: store.namespace("n").get("a"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_store_says_so(store_path, run, call):
    async def main():
        store = await opened(store_path)
        await store.set_many(ITEMS)
        await store.close()
        await store.close()
        with pytest.raises(kvstore.StoreClosedError):
            await call(store)

    run(main())


def test_opening_what_can_not_be_opened_raises_and_leaves_nothing(tmp_path, run):
    async def main():
        (tmp_path / "text").write_text("no store" * 1_000)
        with pytest.raises(kvstore.StoreFormatError):
            async with kvstore.aio.open(tmp_path / "text"):
                pytest.fail("opened")
        with pytest.raises(ValueError, match="durability"):
            await kvstore.aio.open(tmp_path / "store.kv", durability="some")
        with pytest.raises(kvstore.StoreIOError):
            await kvstore.aio.open(tmp_path / "none.kv", create=False)
        await settled(lambda: not own_threads())

    run(main())


def test_a_cancelled_opening_leaves_nothing_open(store_path, run):
    async def main():
        for pause in (0, 0, 0.001, 0.002, 0.005):
            task = asyncio.create_task(opened(store_path))
            await asyncio.sleep(pause)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await task).close()
        await settled(lambda: not own_threads())
        async with kvstore.aio.open(store_path, durability="full") as store:
            await store.set("a", 1)

    run(main())


def test_a_store_that_is_dropped_unclosed_lets_go_of_file_and_threads(store_path, run):
    async def main():
        store = await opened(store_path)
        await store.set("a", 1)

    run(main())
    until(lambda: not own_threads())
    with kvstore.open(store_path, durability="full") as store:
        assert store["a"] == 1
