"""Namespaces: separate key spaces in one file, under one memory budget, each with its line of statistics."""

from __future__ import annotations

import gc
import pickle

import pytest

import kvstore
from kvstore import InvalidKeyError, KvstoreError, StoreClosedError
from kvstore.stats import Counts
from tests.calls import calls_made
from tests.other_process import with_store
from tests.threads import at_once
from tests.tiers import assert_books_balance, assert_memory_is_true

LIMIT = 250
"""How many namespaces a store has room for."""


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


# -- separate key spaces ---------------------------------------------------------------------------


def test_a_key_has_a_value_of_its_own_in_each(store, fresh):
    names = ["n", "m", "N", "é", "ns:n", "a b", "x" * 200]
    store["key"] = "default"
    for name in names:
        store.namespace(name)["key"] = name
    for handle in (store, fresh):
        assert handle["key"] == "default"
        assert [handle.namespace(name)["key"] for name in names] == names
        assert dict(handle) == {"key": "default"}
        assert handle.namespaces() == sorted(names)
    del store.namespace("n")["key"]
    store.namespace("m").clear()
    assert store["key"] == "default"
    assert store.get_many(["key"]) == {"key": "default"}
    assert store.namespace("N")["key"] == "N"
    assert store.namespaces() == sorted(set(names) - {"n", "m"})
    store.clear()
    assert len(store) == 0
    assert store.namespace("é")["key"] == "é"
    assert_memory_is_true(store, fresh)


def test_names_and_keys_never_meet(store, fresh):
    store.namespace("n")["a"] = 1
    for key in ("ns:n", b"ns:n", "n", "kvstore:meta", b"kvstore:meta", b"kvstore:expiry"):
        assert key not in store
        store[key] = [key]
    assert len(store) == 6
    assert [value for _, value in store.items()] == [[key] for key in store]
    assert fresh.namespaces() == ["n"]
    store.clear()
    assert dict(fresh.namespace("n")) == {"a": 1}


def test_it_is_there_with_its_first_record_and_gone_with_its_last(store, fresh):
    space = store.namespace("n")
    assert (len(space), list(space), space.get("a"), "a" in space) == (0, [], None, False)
    assert space.delete("a") is False
    assert store.namespaces() == fresh.namespaces() == []
    space["a"] = 1
    assert store.namespaces() == fresh.namespaces() == ["n"]
    assert fresh.namespace("n")["a"] == 1
    del space["a"]
    assert store.namespaces() == fresh.namespaces() == []


def test_records_are_counted_over_all_of_them(store):
    store.set_many({"a": 1, "b": 2})
    store.namespace("n").set_many({"a": 1, "b": 2, "c": 3})
    store.namespace("m")["a"] = 1
    assert len(store) == 2
    assert store.stats().records == 6


def test_there_is_one_object_for_a_name(store):
    assert store.namespace("n") is store.namespace("n")
    assert store.namespace("n") is not store.namespace("m")
    assert (store.namespace("n").name, repr(store.namespace("n"))[:15]) == ("n", "<Namespace 'n' ")
    assert len({id(space) for space in at_once(*[lambda: store.namespace("new")] * 8)}) == 1


def test_a_namespace_keeps_its_store_open(store_path):
    space = kvstore.open(store_path, durability="none").namespace("n")
    gc.collect()
    space["a"] = [1]
    assert space["a"] == [1]
    assert pickle.loads(pickle.dumps(space))["a"] == [1]  # our own


def test_it_closes_with_its_store(store):
    space = store.namespace("n")
    space["a"] = [1]
    assert space["a"] == [1]
    store.close()
    for use in (
        lambda: space["a"],
        lambda: space.get("b"),
        lambda: "a" in space,
        lambda: space.set("a", 1),
        lambda: len(space),
        lambda: list(space),
        lambda: space.get_many(["a"]),
    ):
        with pytest.raises(StoreClosedError):
            use()


# -- names -----------------------------------------------------------------------------------------

GOOD = ["n", "N", " ", "é", "a/b", "ns:", "kvstore", "\x01", "\x7f", "𝄞" * 50, "x" * 200]
BAD = ["", "x" * 201, "𝄞" * 51, "a\0b", "\0", "kvstore:", "kvstore:expiry", "kvstore:x", "\ud800"]
NO_STR = [None, 1, b"n", ("n",), ["n"], type("Text", (str,), {})("n")]


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_a_good_name_is_taken_everywhere(store, fresh, name):
    store.namespace(name)["a"] = [name]
    with store.transaction() as tx:
        assert tx.namespace(name)["a"] == [name]
        tx.namespace(name)["b"] = 2
    with store.snapshot() as snapshot:
        assert snapshot.namespace(name)["b"] == 2
        assert snapshot.namespaces() == [name]
    assert fresh.namespaces() == [name]
    assert [record.namespace for record in store.export_records(namespace=name)] == [name, name]
    assert store.drop_namespace(name) is True
    assert fresh.namespaces() == []


@pytest.mark.parametrize("name", [*BAD, *NO_STR], ids=lambda name: ascii(name)[:30])
def test_a_bad_name_is_refused_everywhere_and_nothing_is_made(store, name):
    kind = TypeError if name in NO_STR else ValueError
    with store.snapshot() as snapshot, store.transaction() as tx:
        for use in (store.namespace, store.drop_namespace, tx.namespace, snapshot.namespace):
            with pytest.raises(InvalidKeyError, match="name") as caught:
                use(name)
            assert isinstance(caught.value, kind)
    assert store.namespaces() == []


# -- memory ----------------------------------------------------------------------------------------


def test_all_share_one_budget(store_path):
    with kvstore.open(store_path, durability="none", cache_size=20_000) as store:
        spaces = [store, *map(store.namespace, "abc")]
        for number in range(200):
            for space in spaces:
                space[number] = [number]
            assert store.stats().memory_bytes <= 20_000
        stats = assert_books_balance(store)
        assert stats.utilization > 0.9
        assert min(line.evictions for line in stats.namespaces.values()) > 0


def test_what_was_used_longest_ago_leaves_whatever_its_space(store_path):
    with kvstore.open(store_path, durability="none", cache_size=6_000) as store:
        hot, cold = store.namespace("hot"), store.namespace("cold")
        hot["key"] = [1]
        for number in range(100):
            cold[number] = [number]
            assert hot["key"] == [1]
        assert store.stats().evictions > 0
        assert hot.stats() == Counts(hits=100, insertions=1)
        assert cold.stats().evictions == store.stats().evictions


# -- statistics ------------------------------------------------------------------------------------


def test_each_has_a_line_and_the_store_the_total(store):
    space = store.namespace("n")
    store["a"] = space["a"] = space["b"] = 1
    before = store.stats()
    store.get("a")
    store.get("none")
    space.get_many(["a", "b", "none"])
    space["a"] = 2
    assert space["a"] == 2
    stats = store.stats() - before
    assert stats.namespaces[""] == Counts(hits=1, misses=1, absent=1)
    assert stats.namespaces["n"].replaced(insertions=0, invalidations=0) == Counts(hits=3, misses=1, absent=1)
    assert sum(stats.namespaces.values(), start=Counts()) == Counts(*(getattr(stats, name) for name in Counts._fields))
    assert space.stats() - before.namespaces["n"] == stats.namespaces["n"]
    assert (stats.lookups, stats.hits, stats.hit_rate) == (6, 4, 4 / 6)


def test_lines_are_exact_under_threads(store):
    spaces = [store, *map(store.namespace, "abc")]
    for space in spaces:
        space.set_many((number, number) for number in range(10))

    def look_up(space):
        for number in range(1_000):
            space.get(number % 20)

    before = store.stats()
    at_once(*(lambda space=space: look_up(space) for space in spaces for _ in range(3)))
    stats = store.stats() - before
    for line in stats.namespaces.values():
        assert line == Counts(hits=1_500, misses=1_500, absent=1_500)
    assert stats.lookups == 4 * 3_000
    assert_books_balance(store)


def test_scanning_counts_nothing(store):
    space = store.namespace("n")
    space.set_many({"a": 1, "b": [2]})
    before = store.stats()
    list(space.items()), len(space), "a" in space, list(space.scan()), list(store.export_records())
    assert store.stats() == before


# -- dropping --------------------------------------------------------------------------------------


def test_dropping_takes_everything_of_one_and_nothing_else(store, fresh):
    store["a"] = [0]
    for name in ("n", "nn", "m"):
        store.namespace(name).set_many({number: [number] for number in range(50)})
    assert store.namespace("n")[7] == [7]
    assert store.drop_namespace("n") is True
    assert store.namespaces() == fresh.namespaces() == ["m", "nn"]
    assert (len(store.namespace("n")), store.namespace("n").get(7)) == (0, None)
    assert store.namespace("nn")[7] == [7]
    assert store["a"] == [0]
    assert store.drop_namespace("n") is False
    assert store.drop_namespace("never there") is False
    store.namespace("n")[7] = "again"
    assert dict(store.namespace("n")) == dict(fresh.namespace("n")) == {7: "again"}
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)


def test_what_was_dropped_costs_no_memory_and_its_pages_are_free(store):
    store["a"] = 1
    before = store.stats()
    space = store.namespace("n")
    space.set_many({number: bytes(1_000) for number in range(900)})
    assert store.stats().memory_bytes > before.memory_bytes + 900 * 1_000
    store.drop_namespace("n")
    after = store.stats()
    assert after.memory_bytes == before.memory_bytes
    assert after.entries == before.entries
    assert after.records == before.records
    assert after.used_bytes < before.used_bytes + 50_000
    assert after.reclaimable_bytes > 900 * 1_000


def test_dropping_takes_no_step_for_each_record(store_path):
    with kvstore.open(store_path, durability="none", cache_size=0) as store:
        took = []
        for many in (10, 20_000):
            store.namespace("n").set_many({number: number for number in range(many)})
            took.append(calls_made(lambda: store.drop_namespace("n")))
        assert abs(took[0] - took[1]) < 20


def test_other_handles_and_processes_see_it_dropped(store_path, store):
    with (
        kvstore.open(store_path, durability="none") as handle,
        with_store(store_path, durability="none") as other,
    ):
        other("space = store.namespace('n')")
        space = store.namespace("n")
        space.set_many({"a": [1], "b": 2})
        store["a"] = "stays"
        for _ in range(2):
            assert handle.namespace("n").get_many("ab") == other("space.get_many('ab')") == {"a": [1], "b": 2}
            assert handle["a"] == other("store['a']") == "stays"
        hits = handle.stats().hits
        store.drop_namespace("n")
        assert handle.namespace("n").get_many("ab") == other("space.get_many('ab')") == {}
        assert handle["a"] == "stays"
        assert handle.stats().hits == hits + 1
        space["b"] = "new"
        assert dict(handle.namespace("n")) == other("dict(space)") == {"b": "new"}
        assert other("store.drop_namespace('n')") is True
        assert space.get("b") is handle.namespace("n").get("b") is None
        assert store.namespaces() == []


def test_an_iteration_goes_on_over_what_was_there(store):
    space = store.namespace("n")
    space.set_many({number: number for number in range(1_000)})
    steps = iter(space)
    seen = [next(steps)]
    store.drop_namespace("n")
    space[5] = "new"
    assert seen + list(steps) == list(range(1_000))


# -- how many --------------------------------------------------------------------------------------


@pytest.fixture
def full(store):
    """A store with all the namespaces that it has room for."""
    with store.transaction() as tx:
        for number in range(LIMIT):
            tx.namespace(f"n{number:03}")["a"] = number
    return store


def test_as_many_as_are_promised_can_be_used(full, store_path):
    assert len(full.namespaces()) == LIMIT
    full.set("ends", 1, ttl=1_000)
    with with_store(store_path, durability="none") as other:
        assert other("[store.namespace(f'n{number:03}')['a'] for number in range(250)]") == list(range(LIMIT))
    full.close()
    with kvstore.open(store_path, durability="none") as again:
        assert [again.namespace(f"n{number:03}")["a"] for number in range(LIMIT)] == list(range(LIMIT))
        assert again["ends"] == 1


def test_one_more_is_a_typed_error_that_says_what_to_do_and_changes_nothing(full):
    with pytest.raises(KvstoreError, match="tuple keys"):
        full.namespace("more")["a"] = 1
    with full.transaction() as tx:
        tx["before"] = 1
        with pytest.raises(KvstoreError, match="tuple keys"):
            tx.namespace("more")["a"] = 1
        tx.namespace("n000")["a"] = "after"
    assert full.namespace("more").get("a") is None
    assert "more" not in full.namespaces()
    assert full["before"] == 1
    assert full.namespace("n000")["a"] == "after"


def test_dropped_ones_make_room_for_others_by_compacting(full):
    for number in range(5):
        assert full.drop_namespace(f"n{number:03}") is True
    full.compact()
    for number in range(5):
        full.namespace(f"new{number}")["a"] = number
    assert [full.namespace(f"new{number}")["a"] for number in range(5)] == list(range(5))
    assert full.namespace("n005")["a"] == 5
    with pytest.raises(KvstoreError, match="tuple keys"):
        full.namespace("more")["a"] = 1
