"""Computing a missing value once, among tasks, threads and processes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import kvstore
from tests import loops
from tests.loops import settled
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


@pytest.mark.parametrize("kind", ["coroutine function", "function", "function that gives a coroutine"])
def test_a_factory_runs_once_among_tasks_threads_and_processes(store, other, store_path, run, kind):
    made = []

    async def make():
        made.append("task")
        await asyncio.sleep(0.2)
        return ["value"]

    def make_in_thread():
        made.append("thread")
        time.sleep(0.2)
        return ["value"]

    factory = {"coroutine function": make, "function": make_in_thread}.get(kind, lambda: make())

    async def main():
        with with_store(store_path, durability="none") as process:
            tasks = [asyncio.create_task(store.get_or_set("k", factory)) for _ in range(50)]
            await settled(lambda: made)
            threads = [asyncio.to_thread(other.get_or_set, "k", make_in_thread) for _ in range(3)]
            elsewhere = asyncio.to_thread(process, "store.get_or_set('k', lambda: 'another value')")
            values = await asyncio.gather(*tasks, *threads, elsewhere)
        assert values == [["value"]] * len(values)
        assert len({id(value) for value in values}) == len(values)
        assert len(made) == 1

    run(main())


def test_tasks_wait_for_what_a_thread_or_another_process_computes(store, other, store_path, run):
    inside, go_on = threading.Event(), threading.Event()

    def make():
        inside.set()
        go_on.wait(PATIENCE_SECONDS)
        return "thread's"

    async def main():
        thread = asyncio.create_task(asyncio.to_thread(other.get_or_set, "k", make))
        await settled(inside.is_set)
        tasks = [asyncio.create_task(store.get_or_set("k", lambda: "task's")) for _ in range(5)]
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.gather(thread, *tasks) == ["thread's"] * 6

        with with_store(store_path, durability="none") as process:
            await asyncio.to_thread(
                process, "def make():\n    store['begun'] = 1\n    __import__('time').sleep(0.2)\n    return 'theirs'"
            )
            process.tell("store.get_or_set('p', make)")
            while not await store.contains("begun"):
                await asyncio.sleep(0.001)
            assert await store.get_or_set("p", lambda: "ours") == "theirs"
            assert await asyncio.to_thread(process.answer) == "theirs"

    run(main())


def test_a_factory_that_raises_releases_the_others(store, run):
    turns = []

    async def make():
        turns.append(None)
        await asyncio.sleep(0.01)
        if len(turns) < 3:
            raise LookupError(len(turns))
        return "value"

    async def main():
        tasks = (store.get_or_set("k", make) for _ in range(6))
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(map(str, done)) == ["1", "2", "value", "value", "value", "value"]
        assert len(turns) == 3

    run(main())


def test_a_factory_that_raises_stop_iteration_is_an_error_not_a_wait_for_ever(store, run):
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await store.get_or_set("k", lambda: next(iter(())))
        assert await store.get_or_set("k", lambda: 1) == 1

    run(main())


@pytest.mark.parametrize("who", ["the first", "another"])
def test_cancelling_one_who_waits_leaves_the_computation_to_the_others(store, run, who):
    begun = []

    async def make():
        begun.append(None)
        await asyncio.sleep(0.05)
        return "value"

    async def main():
        tasks = [asyncio.create_task(store.get_or_set("k", make)) for _ in range(5)]
        await settled(lambda: begun)
        await asyncio.sleep(0.01)
        gone = tasks.pop(0 if who == "the first" else 2)
        gone.cancel()
        assert await asyncio.gather(*tasks) == ["value"] * 4
        assert gone.cancelled()
        assert len(begun) == 1

    run(main())


def test_a_computation_that_nobody_waits_for_is_cancelled_and_the_next_one_computes(store, run):
    async def main():
        cancelled = asyncio.Event()

        async def make():
            try:
                await asyncio.sleep(PATIENCE_SECONDS)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        for pause in (0, 0.05):
            task = asyncio.create_task(store.get_or_set("k", make))
            await asyncio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await cancelled.wait()
        assert await store.get_or_set("k", lambda: 1) == 1

    run(main())


def test_a_factory_may_ask_for_the_key_that_it_computes(store, run):
    async def make():
        return [await store.get_or_set("k", lambda: "inner")]

    assert run(store.get_or_set("k", make)) == ["inner"]
    assert run(store.get("k")) == ["inner"]


def test_factories_that_use_the_store_do_not_starve_each_other(store, run):
    async def make(number):
        assert await store.get(("none", number)) is None
        await asyncio.sleep(0.01)
        return await store.get_or_set(("inner", number), lambda: number)

    async def main():
        asked = (store.get_or_set(number, lambda number=number: make(number)) for number in range(200))
        assert await asyncio.gather(*asked) == list(range(200))

    run(main())
