"""Every operation of a store, as a coroutine, on everything that stands for one."""

from __future__ import annotations

import asyncio
import contextlib
import inspect

import pytest

import kvstore
import kvstore.aio
from tests import loops
from tests.loops import ITEMS


@pytest.fixture
def run():
    with loops.running() as run:
        yield run


@pytest.fixture
def store(store_path, run):
    with loops.open_in(run, store_path) as store:
        yield store


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
    except Exception as error:  # the outcome, like a result
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
