"""Transactions, snapshots and iterations of tasks."""

from __future__ import annotations

import asyncio

import pytest

import kvstore
from kvstore import keys
from tests import loops
from tests.loops import ITEMS, commits, own_threads, settled, writers_waiting
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS


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


# -- transactions and snapshots --------------------------------------------------------------------


def test_a_transaction_commits_at_its_end_and_rolls_back_on_an_exception(store, run):
    async def main():
        before = commits(store)
        async with store.transaction() as tx:
            await tx.set("a", 1)
            await tx.namespace("n").set("b", 2)
            assert await tx.get("a") == 1
            assert await store.get("a") is None
        assert commits(store) == before + 1
        assert await store.get("a") == await store.namespace("n").get("b") - 1 == 1
        with pytest.raises(LookupError):
            async with store.transaction() as tx:
                await tx.set("a", 3)
                await tx.incr("b")
                raise LookupError
        assert await store.get("a") == 1
        assert await store.get("b") is None

    run(main())


def test_a_cancelled_transaction_rolls_back_and_lets_the_others_go_on(store, run):
    async def main():
        inside = asyncio.Event()

        async def transact():
            async with store.transaction() as tx:
                await tx.set("a", 1)
                inside.set()
                await asyncio.sleep(PATIENCE_SECONDS)

        task = asyncio.create_task(transact())
        await inside.wait()
        write = asyncio.create_task(store.set("b", 1))
        await asyncio.sleep(0.01)
        assert not write.done()
        task.cancel()
        await write
        # It has given the turn back, and may have yet to hear of it.
        await asyncio.wait([task])
        assert task.cancelled()
        assert await store.get_many(["a", "b"]) == {"b": 1}

    run(main())


def test_a_transaction_cancelled_while_it_waits_to_begin_holds_nothing_up(store, other, run):
    async def main():
        async def transact():
            async with store.transaction():
                pytest.fail("begun")

        with writers_waiting(other):
            task = asyncio.create_task(transact())
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await store.set("a", 1)
        async with store.transaction() as tx:
            await tx.set("a", 2)
        await settled(lambda: not any("transaction" in name for name in own_threads()))

    run(main())


def test_a_task_inside_its_transaction_can_neither_write_beside_it_nor_wait_for_another(store, run):
    async def main():
        async with store.transaction() as tx:
            await tx.set("a", 1)
            refused = [
                store.set("b", 1),
                store.get_or_set("b", int),
                store.expire(),
                store.compact(),
                store.drop_namespace("n"),
                store.namespace("n").incr("b"),
                store.transaction().__aenter__(),
                store.run(lambda tx: tx.set("b", 1)),
                store.close(),
            ]
            for beside in refused:
                with pytest.raises(kvstore.TransactionError):
                    await beside
            assert await store.count() == 0
        assert await store.get("a") == 1

    run(main())


def test_a_transaction_is_of_no_use_outside_its_block(store, run):
    async def main():
        tx = store.transaction()
        with pytest.raises(kvstore.TransactionError):
            await tx.get("a")
        async with tx:
            await tx.set("a", 1)
            space = tx.namespace("n")
        for late in (tx.set("a", 2), tx.get("a"), space.set("a", 2), tx.__aenter__()):
            with pytest.raises(kvstore.TransactionError):
                await late

    run(main())


def test_many_tasks_in_transactions_take_turns(store, run):
    async def main():
        async def move(amount):
            async with store.transaction() as tx:
                await tx.set("a", await tx.get("a", 100) - amount)
                await tx.set("b", await tx.get("b", 0) + amount)

        await asyncio.gather(*map(move, range(30)), *(store.incr("n") for _ in range(30)))
        assert await store.get_many(["a", "b", "n"]) == {"a": 100 - 435, "b": 435, "n": 30}
        await settled(lambda: not any("transaction" in name for name in own_threads()))

    run(main())


def test_run_gives_the_functions_result_and_tries_again_where_the_store_is_busy(store, store_path, run):
    tried = []

    async def main():
        with with_store(store_path, durability="none") as process:
            await asyncio.to_thread(process, "tx = store.transaction(); tx.__enter__()")

            async def work(tx):
                await tx.incr("n")
                return await tx.get("n")

            with pytest.raises(kvstore.StoreBusyError):
                await store.run(work, attempts=2, timeout=0.01)
            await asyncio.to_thread(process, "tx.__exit__(None, None, None)")
            assert await store.run(work) == 1

            async def busy_once(tx):
                tried.append(await tx.incr("n"))
                if len(tried) == 1:
                    raise kvstore.StoreBusyError

            await store.run(busy_once)
        assert tried == [2, 2]
        assert await store.get("n") == 2
        with pytest.raises(ValueError, match="attempts"):
            await store.run(work, attempts=0)

    run(main())


def test_a_snapshot_is_frozen_and_ends_with_its_block(store, run):
    async def main():
        await store.set_many(ITEMS)
        await store.namespace("n").set("x", 1)
        async with store.snapshot() as view:
            await store.clear()
            await store.namespace("n").clear()
            assert [item async for item in view.scan()] == [item async for item in (await store.snapshot()).scan()] + [
                (key, ITEMS[key]) for key in ["a", "b", "c", 5, ("d", 1)]
            ]
            assert await view.count() == 5
            assert await view.get_many(ITEMS) == ITEMS
            assert await view.namespaces() == ["n"]
            assert await view.namespace("n").contains("x")
            assert not hasattr(view, "set")
        with pytest.raises(kvstore.TransactionError):
            await view.get("a")

    run(main())


# -- scans -----------------------------------------------------------------------------------------


def test_a_scan_is_in_key_order_over_one_view_whatever_is_written_meanwhile(store, run):
    async def main():
        await store.set_many({number: number for number in range(1_000)})
        seen = []
        async for key, _ in store.scan(start=100, reverse=True):
            seen.append(key)
            if key % 100 == 0:
                await store.set_many(dict.fromkeys(range(key - 50, key), -1))
                await store.delete(key - 1)
        assert seen == list(range(999, 99, -1))
        assert [key async for key in store.scan_keys(start=5, stop=8)] == [5, 6, 7]
        assert [item async for item in store.scan(limit=2)] == [(0, 0), (1, 1)]
        with pytest.raises(ValueError, match="limit"):
            store.scan(limit=-1)

    run(main())


@pytest.mark.parametrize("end", ["break", "aclose", "cancel"])
def test_an_iteration_that_is_left_early_lets_go_of_its_view(store, run, end):
    async def main():
        await store.set_many({number: number for number in range(1_000)})
        scan = store.scan_keys()

        async def read(scan):
            async for key in scan:
                if key == 100:
                    if end == "break":
                        break
                    if end == "aclose":
                        await scan.aclose()
                    else:
                        asyncio.current_task().cancel()
                        await asyncio.sleep(0)

        task = asyncio.create_task(read(scan))
        await asyncio.wait([task])
        del scan, task
        await store.set("a", 1)
        await store.set("a", 2)
        assert (await store.stats()).oldest_reader_lag == 0

    run(main())


def test_an_error_in_a_scan_comes_after_the_items_before_it(store, run):
    async def main():
        await store.set_many({number: number for number in range(40)})
        with store._engine.backend.transaction() as txn:
            txn.put("", keys.encode(30), b"damaged")
            txn.commit()
        seen = []
        with pytest.raises(kvstore.CorruptRecordError):
            async for key, _ in store.scan():
                seen.append(key)
        assert seen == list(range(30))

    run(main())
