"""Memoized functions among tasks: of stores that were opened for tasks, and for threads."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

import kvstore
import kvstore.aio
from tests import loops
from tests.loops import own_threads, settled
from tests.threads import PATIENCE_SECONDS


@pytest.fixture
def run():
    with loops.running() as run:
        yield run


@pytest.fixture
def other(store_path):
    """A store for threads."""
    with kvstore.open(store_path, durability="none") as other:
        yield other


@pytest.fixture(params=["aio", "threads"])
def store(request, store_path, run, other):
    """A store that was opened for tasks, and one that was not."""
    if request.param == "threads":
        yield other
    else:
        with loops.open_in(run, store_path) as store:
            yield store


@pytest.fixture
def aio(store_path, run):
    with loops.open_in(run, store_path) as store:
        yield store


@pytest.fixture
def ran():
    return []


# -- calls ---------------------------------------------------------------------------------------------------------


def test_tasks_that_ask_at_once_have_it_computed_once(store, run, ran):
    @store.memoize(version=1)
    async def function(n, *, more=()):
        ran.append(n)
        await asyncio.sleep(0.01)
        return [n]

    async def main():
        answers = await asyncio.gather(*(function(n % 3, more=[1]) for n in range(60)))
        assert answers == [[n % 3] for n in range(60)]
        assert len({id(answer) for answer in answers}) == 60
        assert await function(1, more=[1]) == [1]
        stats = await function.stats()
        assert (stats.hits, stats.misses) == (58, 3)
        assert stats.seconds_saved > stats.seconds_computed > 0

    run(main())
    assert sorted(ran) == [0, 1, 2]


def test_a_coroutine_function_stays_one(store):
    async def function(a: int, *, b: str = "x") -> str:
        """What it does."""

    memoized = store.memoize(function)
    assert inspect.iscoroutinefunction(memoized)
    assert asyncio.iscoroutinefunction(memoized)
    assert (memoized.__name__, memoized.__doc__) == ("function", "What it does.")
    assert inspect.signature(memoized) == inspect.signature(function)


def test_a_hit_is_answered_without_giving_the_loop_away(store, run):
    @store.memoize
    async def function(n, m=2):
        return [n, m]

    async def main():
        await function(1)
        for call in (lambda: function(1), lambda: function(n=1, m=2), lambda: function(1, 2)):
            with pytest.raises(StopIteration) as answered:
                call().send(None)
            assert answered.value.value == [1, 2]

    run(main())


def test_a_function_that_is_no_coroutine_function_is_called_in_a_thread(aio, run, ran):
    @aio.memoize
    def function(n):
        ran.append(threading.current_thread())
        return [n]

    assert inspect.iscoroutinefunction(function)
    assert run(function(1)) == run(function(1)) == [1]
    assert len(ran) == 1
    assert ran[0] is not threading.current_thread()


def test_a_namespace_keeps_results_of_its_own(aio, run):
    images = aio.namespace("images")

    @images.memoize(version=1)
    async def function(n):
        return [n]

    async def main():
        assert await function(1) == await function(1) == [1]
        assert await images.get(function.key(1)) == [1]
        assert await aio.namespaces() == ["images"]

    run(main())


def test_tasks_and_threads_share_results_and_computations(aio, other, run, ran):
    inside, go_on = threading.Event(), threading.Event()

    def function(n):
        ran.append(n)
        inside.set()
        go_on.wait(PATIENCE_SECONDS)
        return [n]

    in_threads, in_tasks = other.memoize(function), aio.memoize(function)

    async def main():
        thread = asyncio.create_task(asyncio.to_thread(in_threads, 1))
        await settled(inside.is_set)
        tasks = [asyncio.create_task(in_tasks(1)) for _ in range(5)]
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.gather(thread, *tasks) == [[1]] * 6
        assert await in_tasks(2) == await asyncio.to_thread(in_threads, 2) == [2]

    run(main())
    assert ran == [1, 2]


def test_methods_and_class_methods(store, run, ran):
    class Model:
        @store.memoize(ignore="self")
        async def embed(self, text):
            ran.append(text)
            return text

        @staticmethod
        @store.memoize
        async def static(text):
            ran.append(text)
            return text

    async def main():
        assert await Model().embed("a") == await Model().embed("a") == "a"
        assert await Model.static("b") == await Model().static("b") == "b"

    run(main())
    assert ran == ["a", "b"]


def test_results_are_forgotten(store, run, ran):
    def made(version):
        @store.memoize(name="f", version=version)
        async def function(n):
            ran.append((version, n))
            return n

        return function

    async def main():
        old, new = made(1), made(2)
        await old(1), await old(2), await new(1), await new(2)
        assert await new.drop_old_versions() == 2
        assert await new.invalidate(1) == 1
        await new(1), await new(2)
        assert await new.clear() == 2
        await new(1)

    run(main())
    assert ran == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 1), (2, 1)]


# -- errors and cancellation ---------------------------------------------------------------------------------------


def test_one_that_raises_leaves_its_turn_to_the_others(store, run, ran):
    @store.memoize
    async def function(n):
        ran.append(n)
        await asyncio.sleep(0.01)
        if len(ran) < 3:
            raise LookupError(len(ran))
        return "value"

    async def main():
        done = await asyncio.gather(*(function(1) for _ in range(6)), return_exceptions=True)
        assert sorted(map(str, done)) == ["1", "2", "value", "value", "value", "value"]

    run(main())
    assert len(ran) == 3


def test_stop_iteration_is_an_error_not_a_wait_for_ever(aio, run):
    @aio.memoize
    def function(n):
        return next(iter(()))

    async def main():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await function(1)

    run(main())


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("who", ["the first", "another"])
def test_cancelling_one_who_waits_leaves_the_computation_to_the_others(store, run, ran, who, batch):
    @store.memoize(batch=batch)
    async def function(items):
        ran.append(items)
        await asyncio.sleep(0.05)
        return items

    async def main():
        tasks = [asyncio.create_task(function([1, 2])) for _ in range(5)]
        await settled(lambda: ran)
        await asyncio.sleep(0.01)
        gone = tasks.pop(0 if who == "the first" else 2)
        gone.cancel()
        assert await asyncio.gather(*tasks) == [[1, 2]] * 4
        assert gone.cancelled()

    run(main())
    assert len(ran) == 1


@pytest.mark.parametrize("batch", [False, True])
def test_a_computation_that_nobody_waits_for_is_cancelled_and_the_next_one_computes(store, run, batch):
    cancelled = []

    @store.memoize(batch=batch)
    async def function(items):
        if cancelled:
            return items
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main():
        task = asyncio.create_task(function([1]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        task = asyncio.create_task(function([1]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled(lambda: cancelled)
        assert await function([1]) == [1]

    run(main())


def test_a_function_may_ask_for_what_it_is_computing(store, run, ran):
    @store.memoize
    async def function(n):
        ran.append(n)
        return "inner" if len(ran) == 2 else [await function(n)]

    assert run(function(1)) == ["inner"]


def test_a_miss_inside_a_transaction_of_the_task_is_refused_before_it_is_computed(aio, run, ran):
    @aio.memoize
    async def function(n):
        ran.append(n)
        return n

    async def main():
        await function(1)
        async with aio.transaction():
            assert await function(1) == 1
            for attempt in (
                lambda: function(2),
                lambda: function.invalidate(1),
                function.clear,
                function.drop_old_versions,
            ):
                with pytest.raises(kvstore.TransactionError):
                    await attempt()

    run(main())
    assert ran == [1]


def test_a_closed_store_answers_nothing(store, run):
    @store.memoize
    async def function(n):
        return n

    async def main():
        await function(1)
        closing = store.close()
        if closing is not None:
            await closing
        for call in (lambda: function(1), lambda: function(2), function.stats, function.clear):
            with pytest.raises(kvstore.StoreClosedError):
                await call()

    run(main())


def test_a_read_only_store_answers_what_it_has_and_computes_the_rest(store_path, run, other, ran):
    async def function(n):
        ran.append(n)
        return [n]

    async def main():
        await other.memoize(function)(1)
        other.close()
        async with kvstore.aio.open(store_path, readonly=True) as reader:
            memoized = reader.memoize(function)
            assert [await memoized(1), await memoized(2), await memoized(2)] == [[1], [2], [2]]
            assert (await memoized.stats()).unstored == 2

    run(main())
    assert ran == [1, 2, 2]


# -- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coroutine function", "function"])
def test_a_batch_computes_what_is_missing(aio, run, ran, kind):
    def plain(items, scale=1):
        ran.append(items)
        return [item * scale for item in items]

    async def coroutine(items, scale=1):
        return plain(items, scale)

    function = aio.memoize(batch=True, max_batch=2)(plain if kind == "function" else coroutine)

    async def main():
        assert await function([3, 1, 3, 2]) == [3, 1, 3, 2]
        assert await function([1, 2, 4]) == [1, 2, 4]
        assert await function([]) == []
        assert await function([1], scale=5) == [5]
        assert await function.invalidate([1, 9]) == 1
        stats = await function.stats()
        assert (stats.hits, stats.misses) == (3, 5)

    run(main())
    assert ran == [[3, 1], [2], [4], [1]]


def test_batches_of_tasks_and_threads_that_overlap_share_the_work(aio, other, run, ran):
    async def in_task(items):
        ran.extend(items)
        await asyncio.sleep(0.005)
        return [[item] for item in items]

    def in_thread(items):
        ran.extend(items)
        return [[item] for item in items]

    tasks = aio.memoize(batch=True, max_batch=4, name="f")(in_task)
    threads = other.memoize(batch=True, max_batch=4, name="f")(in_thread)
    wanted = [[*range(start, start + 30)][::step] for start in (0, 10, 20) for step in (1, -1)]

    async def main():
        asked = [*map(tasks, wanted), *(asyncio.to_thread(threads, items) for items in wanted)]
        assert await asyncio.gather(*asked) == [[[item] for item in items] for items in wanted] * 2

    run(main())
    assert sorted(ran) == list(range(50))


def test_a_partial_failure_loses_nothing_that_succeeded(store, run, ran):
    @store.memoize(batch=True, max_batch=2)
    async def function(items):
        ran.append(items)
        if 4 in items and len(ran) == 3:
            raise ArithmeticError
        return items

    async def main():
        with pytest.raises(ArithmeticError):
            await function([*range(8)])
        assert await function([*range(8)]) == [*range(8)]

    run(main())
    assert ran == [[0, 1], [2, 3], [4, 5], [4, 5], [6, 7]]


def test_a_store_for_threads_leaves_no_thread_behind(other, run):
    @other.memoize
    async def function(n):
        return n

    run(function(1))
    other.close()
    run(settled(lambda: not own_threads()))
