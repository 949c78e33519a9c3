"""Entries of the memory tier: what you get is yours, and they cost what Python really spends on them."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import pytest

import kvstore
from kvstore import codec
from tests import policies
from tests.strategies import same


@pytest.fixture
def open_store(store_path):
    """Opens handles of one store; closes them at the end."""
    handles = []

    def opened(**options):
        handles.append(kvstore.open(store_path, **{"durability": "none"} | options))
        return handles[-1]

    yield opened
    for handle in handles:
        handle.close()


# -- what you get is yours -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        {"a": 1},
        {1, 2},
        bytearray(b"abc"),
        ([1], 2),
        [[1]],
        {"a": {"b": []}},
        {(1, 2): [3]},
        [(1, [2])],
    ],
    ids=repr,
)
def test_no_two_readers_share_what_can_change(open_store, value):
    writer, store = open_store(), open_store()
    writer["key"] = value
    found = [store["key"] for _ in range(3)] + [writer["key"] for _ in range(3)]
    mutable = [list(mutable_parts(one)) for one in found]
    assert all(same(one, value) for one in found)
    for one, other in itertools.combinations([*mutable, list(mutable_parts(value))], 2):
        assert not {id(part) for part in one} & {id(part) for part in other}


def mutable_parts(value):
    """The parts of a value that can be changed, itself included."""
    if type(value) in {list, dict, set, bytearray}:
        yield value
    if type(value) in {list, tuple, dict}:
        for inner in value.values() if type(value) is dict else value:
            yield from mutable_parts(inner)


@pytest.mark.parametrize("value", [5, 2.5, "text", b"bytes", None, True, 10**30, (1, 2), frozenset({1})], ids=repr)
def test_an_immutable_value_is_handed_out_as_it_is(open_store, value):
    store = open_store()
    store["key"] = value
    assert store["key"] is store["key"]
    assert same(store["key"], value)


def test_an_own_type_is_made_anew_for_every_reader(open_store):
    class Point:
        def __init__(self, x):
            self.x = x

    codec.register(Point, "a point of test_memory", lambda point: point.x, Point)
    store = open_store()
    store["key"] = Point(1)
    store["key"].x = 2
    assert store["key"].x == 1
    assert store["key"] is not store["key"]
    store["key"] = {"inside": Point([1])}
    store["key"]["inside"].x.append(2)
    assert store["key"]["inside"].x == [1]


# -- what entries cost ---------------------------------------------------------------------------

KINDS = {
    "small str": lambda number: f"value {number}",
    "dict of four keys": lambda number: {
        "id": number,
        "name": f"name {number}",
        "score": number / 7,
        "ok": True,
    },
    "nested": lambda number: {
        "id": number,
        "tags": ["a", f"tag {number}"],
        "at": {"x": number / 3, "y": [number]},
    },
    "2 KB of bytes": lambda number: number.to_bytes(4, "big") * 512,
}


KEYS = {
    "str": lambda number: f"key {number}",
    "int": lambda number: 1_000_000 + number,
    "tuple": lambda number: ("key", number),
}


def real_memory(path, policy, cache_size, make, *, key=KEYS["str"], namespace=""):
    """Bytes that Python spends on a memory tier that has been filled beyond its size, by the store's own figure."""
    with kvstore.open(path, durability="none", cache_size=0) as anchor:
        anchor["warm"] = make(0)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            with kvstore.open(path, durability="none", cache_size=cache_size, policy=policy) as store:
                space = store.namespace(namespace) if namespace else store
                for start in itertools.count(step=500):
                    space.set_many((key(number), make(number)) for number in range(start, start + 500))
                    stats = store.stats()
                    if stats.evictions > 500:
                        break
                gc.collect()
                after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert stats.utilization > 0.95
    return (after - before) / cache_size


# What an entry costs is its value's part and its policy's: each is seen with one of the other.
@pytest.mark.parametrize(
    ("policy", "kind"),
    [*((policies.NAMED[0], kind) for kind in KINDS), *((policy, "small str") for policy in policies.NAMED[1:])],
)
def test_a_full_memory_really_costs_what_it_may(store_path, policy, kind):
    assert 0.7 <= real_memory(store_path, policy, 2 * 2**20, KINDS[kind]) <= 1.1


@pytest.mark.parametrize("namespace", ["", "names"])
@pytest.mark.parametrize("key", KEYS)
def test_a_full_memory_really_costs_what_it_may_whatever_the_keys_and_wherever_they_are(store_path, key, namespace):
    # Of a size at which Python's tables have just grown, so that an entry that pays too little shows.
    spent = real_memory(store_path, "lru", 2**20, KINDS["small str"], key=KEYS[key], namespace=namespace)
    assert 0.7 <= spent <= 1.1


@pytest.mark.torture
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", policies.NAMED)
@pytest.mark.parametrize("mebibytes", [1, 2.7, 6, 11])
def test_a_full_memory_of_any_size_really_costs_what_it_may(store_path, policy, kind, mebibytes):
    assert 0.65 <= real_memory(store_path, policy, int(mebibytes * 2**20), KINDS[kind]) <= 1.1
