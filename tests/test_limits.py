"""A full store is not broken: nothing is lost, and reads, deletes, purging and compacting work."""

from __future__ import annotations

import contextlib

import pytest

import kvstore
from kvstore import StoreFullError
from kvstore.dump import DumpRecord
from tests.threads import at_once
from tests.tiers import assert_books_balance, assert_memory_is_true

MAX = 600_000
CLOCK = 1_700_000_000.0


def opened(path, **options):
    return kvstore.open(path, durability="none", max_size=MAX, clock=lambda: CLOCK, **options)


@pytest.fixture
def store(store_path):
    with opened(store_path) as store:
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with opened(store_path, cache_size=0) as fresh:
        yield fresh


def filled(store, size=3_000):
    """Write records of that many bytes until no more go in; those that did."""
    items = {}
    with contextlib.suppress(StoreFullError):
        while True:
            key = len(items)
            store[key] = bytes([key % 256]) * size
            items[key] = bytes([key % 256]) * size
    return items


def assert_is_whole(store, fresh, items):
    assert dict(store) == dict(fresh) == items
    assert store.get_many(items) == items
    assert len(store) == len(items)
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)
    assert store.verify().ok


@pytest.mark.parametrize("size", [10, 500, 3_000, 5_000, 60_000])
def test_what_was_written_before_it_was_full_is_all_there(store, fresh, store_path, size):
    items = filled(store, size)
    # A record and its key cost some forty bytes more.
    assert len(items) * (size + 40) > MAX // 4
    assert_is_whole(store, fresh, items)
    assert store_path.stat().st_size <= MAX
    with pytest.raises(StoreFullError, match=r"store\.kv.*max_size"):
        store[-1] = bytes(60_000)
    assert_is_whole(store, fresh, items)


LARGE = bytes(200_000)


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("large", LARGE),
        lambda store: store.set(0, LARGE),
        lambda store: store.add("large", LARGE),
        lambda store: store.setdefault("large", LARGE),
        lambda store: store.get_or_set("large", lambda: LARGE),
        lambda store: store.modify(0, lambda _: LARGE),
        lambda store: store.compare_and_set(0, bytes(3_000), LARGE),
        lambda store: store.set_many({0: 1, "large": LARGE, "small": 2}),
        lambda store: store.update({0: 1, "large": LARGE}),
        lambda store: store.set("large", LARGE, ttl=5),
        lambda store: store.namespace("n").set("large", LARGE),
        lambda store: store.run(lambda tx: (tx.set(0, 1), tx.set("large", LARGE))),
        lambda store: store.run(lambda tx: [tx.set(number, bytes(3_000)) for number in range(-100, 0)]),
        lambda store: store.import_records(
            [DumpRecord("", 0, 1, None), DumpRecord("n", "large", LARGE, None)], merge=True
        ),
    ],
    ids=[
        "set",
        "overwrite",
        "add",
        "setdefault",
        "get_or_set",
        "modify",
        "compare_and_set",
        "set_many",
        "update",
        "with a ttl",
        "in a namespace",
        "in a transaction",
        "little by little in a transaction",
        "import_records",
    ],
)
def test_a_write_that_is_too_large_changes_nothing(store, fresh, write):
    items = filled(store)
    with pytest.raises(StoreFullError):
        write(store)
    assert_is_whole(store, fresh, items)
    assert store.namespaces() == []


def test_everything_can_be_deleted_one_by_one_and_the_room_is_used_again(store, fresh):
    items = filled(store)
    for key in items:
        assert store.delete(key) is True
    assert_is_whole(store, fresh, {})
    again = filled(store)
    assert len(again) >= len(items) - 2
    assert_is_whole(store, fresh, again)


@pytest.mark.parametrize(
    "make_room",
    [
        lambda store: store.clear(),
        lambda store: store.delete_many(range(100)),
        lambda store: [store.popitem() for _ in range(50)],
        lambda store: [store.pop(number) for number in range(50)],
        lambda store: store.run(lambda tx: tx.delete_many(range(100))),
        lambda store: [store.set(number, 1) for number in range(50)],
    ],
    ids=["clear", "delete_many", "popitem", "pop", "in a transaction", "smaller values"],
)
def test_there_is_room_again_after(store, make_room):
    filled(store)
    make_room(store)
    store["large"] = LARGE[:50_000]
    assert store["large"] == LARGE[:50_000]


def test_small_changes_of_what_is_there_go_on_when_it_is_full(store, fresh):
    store["n"] = 0
    items = filled(store) | {"n": 300}
    for step in range(300):
        assert store.incr("n") == step + 1
    for key in range(50):
        store[key] = items[key][::-1]
    assert_is_whole(store, fresh, items)


def test_a_full_store_is_purged_of_what_is_over(store_path):
    now = [CLOCK]
    with kvstore.open(store_path, durability="none", max_size=MAX, clock=lambda: now[0]) as store:
        store.set_many({("ends", number): bytes(3_000) for number in range(60)}, ttl=10)
        items = filled(store)
        now[0] += 10
        assert store.expire() == 60
        assert dict(store) == items
        store["large"] = LARGE[:100_000]


def test_dropping_a_namespace_makes_room(store):
    store.namespace("n").set_many({number: bytes(3_000) for number in range(60)})
    items = filled(store)
    assert store.drop_namespace("n") is True
    store["large"] = LARGE[:100_000]
    assert dict(store) == {**items, "large": LARGE[:100_000]}


def test_compacting_works_when_it_is_full(store, fresh):
    items = filled(store)
    store.compact()
    assert_is_whole(store, fresh, items)
    with pytest.raises(StoreFullError):
        store["large"] = LARGE
    for key in range(40):
        del store[key], items[key]
    store.compact()
    assert_is_whole(store, fresh, items)
    store["large"] = LARGE[:50_000]
    assert store["large"] == fresh["large"] == LARGE[:50_000]


def test_a_snapshot_that_keeps_what_is_deleted_from_being_used_harms_nothing(store, fresh):
    items = filled(store)
    left = dict(items)
    with store.snapshot() as snapshot:
        with contextlib.suppress(StoreFullError):
            for key in items:
                del store[key]
                del left[key]
        assert dict(snapshot) == items
        assert dict(store) == dict(fresh) == left
        assert len(left) < len(items)
        assert store.get_many(items) == left
    store.delete_many(left)
    assert_is_whole(store, fresh, {})


def test_of_many_writers_only_those_that_are_too_large_fail(store, fresh):
    def write(number):
        try:
            store[number] = LARGE * 4 if number % 3 == 0 else [number]
        except StoreFullError:
            return "full"
        return "written"

    outcomes = at_once(*(lambda number=number: write(number) for number in range(24)))
    assert outcomes == ["full" if number % 3 == 0 else "written" for number in range(24)]
    assert_is_whole(store, fresh, {number: [number] for number in range(24) if number % 3})


def test_many_writers_fill_it_and_lose_nothing(store, fresh):
    def write(number):
        written = {}
        with contextlib.suppress(StoreFullError):
            while True:
                key = (number, len(written))
                store[key] = bytes([number]) * 2_000
                written[key] = bytes([number]) * 2_000
        return written

    items = {}
    for written in at_once(*(lambda number=number: write(number) for number in range(8))):
        items |= written
    assert len(items) > 100
    assert_is_whole(store, fresh, items)


def test_a_store_that_is_larger_than_its_new_limit_is_read_and_emptied(store_path):
    items = {number: bytes(3_000) for number in range(300)}
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(items)
    with kvstore.open(store_path, durability="none", max_size=MAX) as store:
        assert dict(store) == items
        with pytest.raises(StoreFullError):
            store["more"] = bytes(3_000)
        for key in range(200):
            del store[key]
        store["more"] = bytes(3_000)
        assert len(store) == 101
        store.compact()
    assert store_path.stat().st_size < MAX


@pytest.mark.parametrize("max_size", [0, 1, 256 * 1024 - 1, -5])
def test_a_limit_that_is_too_small_is_refused(store_path, max_size):
    with pytest.raises(ValueError, match="max_size"):
        kvstore.open(store_path, max_size=max_size)
    assert not store_path.exists()


def test_the_smallest_limit_holds_something(store_path):
    with kvstore.open(store_path, durability="none", max_size=256 * 1024) as store:
        items = filled(store)
        assert len(items) > 30
        assert dict(store) == items
        store.clear()
        store["a"] = 1
    assert store_path.stat().st_size <= 256 * 1024
