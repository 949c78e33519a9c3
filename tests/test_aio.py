"""A store for tasks: the same store, and nothing lost, doubled or blocked on the way."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import random
import threading
import time

import pytest

import kvstore
import kvstore.aio
from kvstore.backends.lmdb_txn import WriteTxn
from tests.processes import another_process
from tests.threads import PATIENCE_SECONDS, until
from tests.tiers import assert_books_balance, assert_memory_is_true

ITEMS = {"a": 1, "b": [1, 2], "c": "three", ("d", 1): {"x": 1.5}, 5: None}


@pytest.fixture
def runner():
    with asyncio.Runner(debug=True) as runner:
        yield runner


@pytest.fixture
def run(runner):
    """Run a coroutine to its end, within reason."""
    return lambda coroutine: runner.run(asyncio.wait_for(coroutine, PATIENCE_SECONDS))


@pytest.fixture
def store(store_path, run):
    store = run(opened(store_path))
    yield store
    run(store.close())


@pytest.fixture
def other(store_path, store):
    """A handle of the same process, for threads."""
    with kvstore.open(store_path, durability="none") as other:
        yield other


async def opened(path, **options):
    return await kvstore.aio.open(path, **{"durability": "none", **options})


async def settled(condition):
    """Give the loop away until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def own_threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("kvstore")}


def commits(store):
    """How many commits the file has seen."""
    return max(cell[0] for cell in store._engine.backend.commits)


@contextlib.contextmanager
def writers_waiting(other):
    """Nobody's write is committed inside; what is posted waits."""
    inside, done = threading.Event(), threading.Event()

    def hold():
        with other.transaction():
            inside.set()
            done.wait(PATIENCE_SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        done.set()
        holder.join()


@contextlib.contextmanager
def commits_held(monkeypatch):
    """Gives an event that is set when a commit is about to take place, and one that lets it."""
    reached, go_on = threading.Event(), threading.Event()
    commit = WriteTxn.commit

    def held(txn):
        reached.set()
        go_on.wait(PATIENCE_SECONDS)
        commit(txn)

    with monkeypatch.context() as patch:
        patch.setattr(WriteTxn, "commit", held)
        try:
            yield reached, go_on
        finally:
            go_on.set()


# -- the same operations ---------------------------------------------------------------------------

OPERATIONS = {
    "get": lambda s: s.get("b"),
    "get, absent": lambda s: s.get("none", "default"),
    "get, no key at all": lambda s: s.get(1.5),
    "get, unhashable": lambda s: s.get([]),
    "get_many": lambda s: s.get_many(iter(["c", "none", "a", "c"])),
    "ttl": lambda s: s.ttl("a"),
    "ttl, absent": lambda s: s.ttl("none"),
    "set": lambda s: s.set("new", (1, {"y": 2})),
    "set, over": lambda s: s.set("a", 2),
    "set, no key": lambda s: s.set(True, 1),
    "set, unstorable": lambda s: s.set("a", object()),
    "set, senseless ttl": lambda s: s.set("a", 1, ttl=-1),
    "add": lambda s: s.add("new", 1),
    "add, there": lambda s: s.add("a", 2),
    "delete": lambda s: s.delete("a"),
    "delete, absent": lambda s: s.delete("none"),
    "delete, no key at all": lambda s: s.delete(1.5),
    "pop": lambda s: s.pop("b"),
    "pop, absent": lambda s: s.pop("none"),
    "pop, default": lambda s: s.pop("none", 3),
    "pop, no key at all": lambda s: s.pop(1.5, 4),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("new", [1]),
    "setdefault, there": lambda s: s.setdefault("b", 0),
    "touch": lambda s: s.touch("a", None),
    "touch, absent": lambda s: s.touch("none", 3),
    "incr": lambda s: s.incr("a", 4),
    "incr, new": lambda s: s.incr("new", 0.5, default=2),
    "incr, no number": lambda s: s.incr("c"),
    "compare_and_set": lambda s: s.compare_and_set("a", 1, "one"),
    "compare_and_set, other": lambda s: s.compare_and_set("a", 1.0, "one"),
    "modify": lambda s: s.modify("b", lambda value: [*value, 3]),
    "modify, absent": lambda s: s.modify("none", lambda value: value),
    "modify, default": lambda s: s.modify("none", lambda value: value + 1, default=1),
    "modify, raising": lambda s: s.modify("a", lambda value: value / 0),
    "get_or_set": lambda s: s.get_or_set("new", lambda: {"made": 1}),
    "get_or_set, there": lambda s: s.get_or_set("a", lambda: 0),
    "get_or_set, raising": lambda s: s.get_or_set("new", lambda: 1 / 0),
    "get_or_set, unstorable": lambda s: s.get_or_set("new", object),
    "set_many": lambda s: s.set_many({"a": 0, "new": 1}),
    "set_many, pairs": lambda s: s.set_many(iter([("a", 0), ("new", 1)])),
    "set_many, nothing": lambda s: s.set_many({}),
    "set_many, one bad": lambda s: s.set_many({"a": 0, "new": object()}),
    "delete_many": lambda s: s.delete_many(iter(["a", "none", "b", "a"])),
    "delete_many, nothing": lambda s: s.delete_many([]),
    "clear": lambda s: s.clear(),
    "expire": lambda s: s.expire(),
}


@contextlib.asynccontextmanager
async def the_store(store):
    yield store


@contextlib.asynccontextmanager
async def a_namespace(store):
    yield store.namespace("n")


@contextlib.asynccontextmanager
async def a_transaction(store):
    async with store.transaction() as tx:
        yield tx


@contextlib.asynccontextmanager
async def a_transaction_namespace(store):
    async with store.transaction() as tx:
        yield tx.namespace("n")


FACES = {
    "store": the_store,
    "namespace": a_namespace,
    "transaction": a_transaction,
    "transaction's namespace": a_transaction_namespace,
}


async def outcome(call):
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except Exception as error:  # noqa: BLE001  # the outcome, like a result
        return type(error)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_every_operation_gives_what_a_stores_gives(store, run, tmp_path, face, operation):
    async def compare():
        with kvstore.open(tmp_path / "model.kv", durability="none") as model:
            model.set_many(ITEMS)
            async with face(store) as space:
                await space.set_many(ITEMS)
                assert await outcome(lambda: operation(space)) == await outcome(lambda: operation(model))
                assert [item async for item in space.scan()] == list(model.items())
                assert [key async for key in space] == list(model)
                assert await space.count() == len(model)
                for key in ["a", "new", 1.5]:
                    assert await space.contains(key) == (key in model)
            async with face(store) as space:
                assert await space.get_many(model) == dict(model)

    run(compare())


IN_OTHER_WORDS = {
    "keys": "scan_keys",
    "values": "scan",
    "items": "scan",
    "update": "set_many",
    "export_record": "for dumps",
    "export_records": "for dumps",
    "import_records": "for dumps",
}


@pytest.mark.parametrize(
    ("face", "model"),
    [
        (kvstore.aio.Store, kvstore.Store),
        (kvstore.aio.Namespace, kvstore.Namespace),
        (kvstore.aio.Transaction, kvstore.transaction.Transaction),
        (kvstore.aio.Snapshot, kvstore.transaction.Snapshot),
    ],
)
def test_every_method_is_here_with_the_same_parameters(face, model):
    for name, method in inspect.getmembers(model, inspect.isfunction):
        if name.startswith("_") or name in IN_OTHER_WORDS:
            continue
        mine, theirs = inspect.signature(getattr(face, name)), inspect.signature(method)
        assert [(p.name.rstrip("_"), p.kind, p.default is p.empty) for p in mine.parameters.values()] == [
            (p.name.rstrip("_"), p.kind, p.default is p.empty) for p in theirs.parameters.values()
        ], name


def test_a_function_that_modifies_may_be_a_coroutine_function(store, run):
    async def slowly(value):
        await asyncio.sleep(0)
        return value + 1

    async def main():
        await store.set("a", 1)
        assert await store.modify("a", slowly) == 2
        assert await asyncio.gather(*(store.modify("n", slowly, default=0) for _ in range(20)))
        assert await store.get("n") == 20

    run(main())


def test_the_care_of_the_file_is_here(store, run, tmp_path):
    async def main():
        await store.set_many({number: "x" * 100 for number in range(1_000)})
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
                for _ in range(100):
                    key = rng.randrange(250)
                    assert await store.get(key) == ([key] if key < 200 else None)
                    await store.get_many([key, "none"])

            await asyncio.gather(*map(look_up, range(20)))
            assert (await store.stats() - before).lookups == 20 * 300
            assert_books_balance(store._space)

    run(main())


def test_what_another_process_writes_is_seen_by_the_next_read(store, store_path, run):
    async def main():
        await store.set("a", 1)
        assert await store.get("a") == 1
        with another_process(store_path) as process:
            await asyncio.to_thread(process, "store['a'] = 2")
            assert await store.get("a") == 2

    run(main())


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


def test_a_batch_that_is_too_large_refuses_what_does_not_fit_and_no_more(store_path, run):
    async def main():
        async with kvstore.aio.open(store_path, durability="none", max_size=2**20) as store:
            writes = (store.set(number, b"x" * (2**20 if number == 3 else 100)) for number in range(10))
            done = await asyncio.gather(*writes, return_exceptions=True)
            assert [type(one) for one in done] == [
                kvstore.StoreFullError if number == 3 else type(None) for number in range(10)
            ]

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


# -- get_or_set ------------------------------------------------------------------------------------


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
        with another_process(store_path) as process:
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

        with another_process(store_path) as process:
            process.start(
                "def make():\n    store['begun'] = 1\n    time.sleep(0.2)\n    return 'theirs'\n"
                "store.get_or_set('p', make)"
            )
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
        await settled(lambda: "kvstore-transaction_0" not in own_threads())

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
        assert not any(name.startswith("kvstore-transaction") for name in own_threads()) or await settled(
            lambda: not any(name.startswith("kvstore-transaction") for name in own_threads())
        ) is None

    run(main())


def test_run_gives_the_functions_result_and_tries_again_where_the_store_is_busy(store, store_path, run):
    tried = []

    async def main():
        with another_process(store_path) as process:
            await asyncio.to_thread(process, "tx = store.transaction(); tx.__enter__(); tx['a'] = 1")

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
            assert [item async for item in view.scan()] == [
                item async for item in (await store.snapshot()).scan()
            ] + [(key, ITEMS[key]) for key in ["a", "b", "c", 5, ("d", 1)]]
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
                await store.set_many({number: -1 for number in range(key - 50, key)})
                await store.delete(key - 1)
        assert seen == list(range(999, 99, -1))
        assert [key async for key in store.scan_keys(start=5, stop=8)] == [5, 6, 7]
        assert [item async for item in store.scan(limit=2)] == [(0, -1) if False else (0, 0), (1, 1)]
        with pytest.raises(ValueError, match="limit"):
            store.scan(limit=-1)

    run(main())


@pytest.mark.parametrize("end", ["break", "aclose", "cancel"])
def test_an_iteration_that_is_left_early_lets_go_of_its_view(store, run, end):
    async def main():
        await store.set_many({number: number for number in range(1_000)})
        scan = store.scan_keys()

        async def read(keys):
            async for key in keys:
                if key == 100:
                    if end == "break":
                        break
                    if end == "aclose":
                        await keys.aclose()
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


def test_an_error_in_a_scan_comes_after_the_items_before_it(store, run, monkeypatch):
    async def main():
        await store.set_many({number: number for number in range(40)})
        space = store._space
        with store._engine.backend.transaction() as txn:
            from kvstore import keys

            txn.put("", keys.encode(30), b"damaged")
            txn.commit()
        seen = []
        with pytest.raises(kvstore.CorruptRecordError):
            async for key, _ in store.scan():
                seen.append(key)
        assert seen == list(range(30))
        assert space is store._space

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
    async def fill():
        await store.set("a", 1)
        await store.get("none")

    async def in_child():
        assert await store.get("a") == 1
        assert await store.get("none") is None
        await store.set("b", 2)
        async with store.transaction() as tx:
            await tx.incr("b")

    run(fill())
    child = os.fork()
    if not child:
        status = 1
        try:
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            asyncio._set_running_loop(None)
            loop.run_until_complete(asyncio.wait_for(in_child(), PATIENCE_SECONDS))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run(store.get("b")) == 3


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
    **{name: OPERATIONS[name] for name in ["get", "set", "incr", "get_many", "expire", "get_or_set", "modify"]},
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
