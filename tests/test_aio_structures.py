"""Lists and sets in an event loop: what the methods of the synchronous ones do, as coroutines."""

from __future__ import annotations

import asyncio
import inspect

import pytest

import kvstore
import kvstore.aio
from kvstore import structures_list, structures_set
from tests.loops import commits, open_in, running, writers_waiting


@pytest.fixture
def run():
    with running() as run:
        yield run


@pytest.fixture
def store(run, store_path):
    with open_in(run, store_path) as store:
        yield store


async def outcome(call):
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        return type(error)


async def everything(found):
    return [each async for each in found]


FACES = ["store", "namespace", "transaction"]
LIST_STEPS = [
    lambda items: items.pop(),
    lambda items: items.append([1]),
    lambda items: items.extend(iter("abc")),
    lambda items: items.extend([]),
    lambda items: items.appendleft(0),
    lambda items: items.extendleft([8, 9]),
    lambda items: items.replace(1, "x"),
    lambda items: items.replace(99, "x"),
    lambda items: items.append(object()),
    lambda items: items.popleft(),
    lambda items: items.touch(1_000),
    lambda items: items.touch(-1),
]
SET_STEPS = [
    lambda members: members.pop(),
    lambda members: members.add("a"),
    lambda members: members.add("a"),
    lambda members: members.add(1.5),
    lambda members: members.update("bcd", iter([1, 2])),
    lambda members: members.discard("z"),
    lambda members: members.discard(1.5),
    lambda members: members.remove("b"),
    lambda members: members.remove("b"),
    lambda members: members.difference_update("d"),
    lambda members: members.symmetric_difference_update(["a", "q", "r"]),
    lambda members: members.intersection_update({"q", "c", 1, 2}),
    lambda members: members.touch(1_000),
    lambda members: members.pop(),
    lambda members: members.union("x"),
    lambda members: members.intersection("xc"),
    lambda members: members.difference("c"),
    lambda members: members.symmetric_difference("cx"),
    lambda members: members.isdisjoint("xy"),
    lambda members: members.issubset("xy"),
    lambda members: members.issuperset([1]),
]


async def on_a_face(store, name, work):
    if name == "transaction":
        async with store.transaction() as tx:
            await work(tx)
    else:
        await work(store if name == "store" else store.namespace("n"))


@pytest.mark.parametrize("face", FACES)
def test_a_list_does_step_by_step_what_a_stores_does(store, run, tmp_path, face):
    async def compare(space):
        with kvstore.open(tmp_path / "model.kv", durability="none") as model:
            items, judge = space.list("k", maxlen=5), model.list("k", maxlen=5)
            assert (items.key, items.maxlen) == ("k", 5)
            for step in LIST_STEPS:
                assert await outcome(lambda: step(items)) == await outcome(lambda: step(judge))
                assert await everything(items) == list(judge)
                assert await everything(items.scan(reverse=True)) == list(reversed(judge))
                assert await items.count() == len(judge)
                for index in (0, -1, 3, slice(1, 3), slice(None, None, -1)):
                    assert await outcome(lambda: items.get(index)) == await outcome(lambda: judge[index])
            assert await items.ttl() == pytest.approx(judge.ttl(), abs=100)
            assert await everything(space.structures()) == [("k", "list")]
            await items.clear()
            assert await outcome(items.ttl) is KeyError

    run(on_a_face(store, face, compare))


@pytest.mark.parametrize("face", FACES)
def test_a_set_does_step_by_step_what_a_stores_does(store, run, tmp_path, face):
    async def compare(space):
        with kvstore.open(tmp_path / "model.kv", durability="none") as model:
            members, judge = space.set_of("k"), model.set_of("k")
            for step in SET_STEPS:
                assert await outcome(lambda: step(members)) == await outcome(lambda: step(judge))
                assert await everything(members) == list(judge)
                assert await everything(members.scan(reverse=True)) == list(reversed(judge))
                assert await members.count() == len(judge)
                for member in ("a", 1, "z", None):
                    assert await members.contains(member) == (member in judge)
            await members.clear()
            assert await members.count() == 0

    run(on_a_face(store, face, compare))


def test_sets_of_a_store_meet(store, run):
    async def meet():
        one, two = store.set_of("one"), store.namespace("n").set_of("two")
        await one.update("abc")
        await two.update("bcd")
        assert await one.intersection(two) == {"b", "c"}
        assert await two.difference(one, "d") == set()
        await one.update(two)
        assert await one.issuperset(two) is True
        await two.symmetric_difference_update(one)
        assert await everything(two) == ["a"]

    run(meet())


def test_a_snapshot_keeps_them_as_they_were(store, run):
    async def look():
        await store.list("k").extend([1, 2])
        await store.set_of("s").add(1)
        async with store.snapshot() as view:
            await store.list("k").clear()
            await store.set_of("s").add(2)
            assert await everything(view.list("k")) == [1, 2]
            assert await everything(view.set_of("s")) == [1]
            assert not hasattr(view.list("k"), "append")

    run(look())


def test_tasks_that_append_at_one_time_share_commits(store, run, store_path):
    async def append():
        with kvstore.open(store_path, durability="none") as other:
            before = commits(other)
            with writers_waiting(other):
                adding = [asyncio.ensure_future(store.list("k").append(number)) for number in range(200)]
                await asyncio.sleep(0)
            await asyncio.gather(*adding)
            assert commits(other) - before <= 10
            assert list(other.list("k")) == list(range(200))

    run(append())


SYNCHRONOUS = {"insert", "index", "reverse"}


@pytest.mark.parametrize(
    ("face", "model"),
    [
        (kvstore.aio.List, structures_list.List),
        (kvstore.aio.ReadableList, structures_list.ReadableList),
        (kvstore.aio.Set, structures_set.Set),
        (kvstore.aio.ReadableSet, structures_set.ReadableSet),
    ],
)
def test_every_method_is_here(face, model):
    names = {name for name, _ in inspect.getmembers(model, inspect.isfunction) if not name.startswith("_")}
    assert names - SYNCHRONOUS <= set(dir(face))
