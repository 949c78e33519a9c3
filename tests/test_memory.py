"""The memory tier: what comes into it, that it is never stale, and what it leaves alone."""

from __future__ import annotations

import pytest

import kvstore
from kvstore.memory import MemoryTier
from tests import policies
from tests.tiers import assert_books_balance


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


def test_a_value_larger_than_memory_goes_past_it(open_store):
    store = open_store(cache_size=2_000)
    store["a"], store["b"] = 1, 2
    before = store.stats()
    store["large"] = bytes(5_000)
    assert store["large"] == bytes(5_000)
    store["a"] = bytes(6_000)
    passed = store.stats() - before
    assert (passed.bypassed, passed.hits, passed.misses, passed.evictions) == (3, 0, 1, 0)
    assert list(store._front) == ["b"]
    assert store["a"] == bytes(6_000)
    assert_books_balance(store)


def test_without_memory_every_lookup_goes_to_the_file(open_store):
    store = open_store(cache_size=0)
    store["a"] = [1]
    assert [store["a"], store.get("a"), store.get("b")] == [[1], [1], None]
    stats = store.stats()
    assert (stats.lookups, stats.misses, stats.absent) == (3, 3, 1)
    assert (stats.entries, stats.insertions, stats.bypassed, stats.memory_bytes) == (0, 0, 0, 0)


def test_closing_lets_go_of_memory(open_store):
    store = open_store()
    store["a"] = 1
    assert store["a"] == 1
    front = store._front
    assert front
    store.close()
    assert not front


# -- what comes in -------------------------------------------------------------------------------


def test_writes_and_misses_fill_memory(open_store):
    open_store().set_many({"a": 1, "b": [2], "c": {"d": [3]}, "e": 4})
    store = open_store()
    assert store.stats().entries == 0
    store["f"] = 5
    assert store["a"] == 1
    assert store.get("b") == [2]
    assert store.get_many(["c", "e"]) == {"c": {"d": [3]}, "e": 4}
    assert set(store._front) == {"a", "b", "c", "e", "f"}
    assert store.get_many("abcef") == {"a": 1, "b": [2], "c": {"d": [3]}, "e": 4, "f": 5}
    stats = store.stats()
    assert (stats.hits, stats.misses, stats.insertions) == (5, 4, 5)


@pytest.mark.parametrize("wanted", ["abcxyz", "xyzabc", "xaybzc"])
def test_the_hits_of_a_batch_come_before_its_misses_whatever_those_evict(open_store, wanted):
    open_store(cache_size=0).set_many(dict.fromkeys("abcxyz", "value"))
    store = open_store(policy=policies.Three)
    assert store.get_many("abc") == dict.fromkeys("abc", "value")
    assert store.get_many(wanted) == dict.fromkeys(wanted, "value")
    stats = store.stats()
    assert (stats.hits, stats.misses, stats.evictions) == (3, 6, 3)
    assert set(store._front) == set("xyz")


def test_a_batch_stays_in_memory_and_a_load_does_not(open_store):
    store = open_store()
    store["hot"] = 1
    store.set_many((number, 0) for number in range(1_000))
    assert store.stats().entries == 1_001
    store.set_many((number, 1) for number in range(500, 1_501))
    assert set(store._front) == {"hot", *range(500)}
    assert store[700] == 1


def test_what_is_not_there_is_not_remembered(open_store):
    store = open_store()
    assert store.get("a") is None
    open_store()["a"] = 1
    assert store.get("a") == 1


@pytest.mark.parametrize("policy", policies.NAMED)
def test_looking_around_neither_fills_memory_nor_moves_its_order(open_store, policy):
    store = open_store(cache_size=2_500, policy=policy)
    store.set_many(dict.fromkeys(range(5), "x" * 100))
    open_store(cache_size=0).set_many({number: [1] for number in range(10, 30)})
    store[3], store[2]

    def state():
        stats = store.stats()
        return stats, list(store._tier._policy._cache), set(store._front)

    before = state()
    assert len(store) == 25
    assert 11 in store
    assert 2 in store
    assert 99 not in store
    assert list(store) == list(reversed(list(reversed(store))))
    assert len(list(store.items())) == len(list(store.values())) == len(list(store.keys())) == 25
    assert (11, [1]) in store.items()
    assert (2, "other") not in store.items()
    assert [1] in store.values()
    assert len(list(store.scan(start=3))) == 22
    assert len(list(store.scan_keys(stop=3))) == 3
    assert len(list(store.export_records())) == 25
    assert store == dict(store.items())
    assert store.ttl(11) is None
    assert state() == before


# -- never stale ---------------------------------------------------------------------------------


def test_a_slow_reader_does_not_put_back_what_was_replaced_meanwhile(open_store):
    store, writer = open_store(), open_store(cache_size=0)
    writer["a"] = "old"
    read = store._read_record

    def slowly(space, key):
        found = read(space, key)
        writer["a"] = "new"
        return found

    store._read_record = slowly
    assert store["a"] == "old"
    store._read_record = read
    assert store["a"] == "new"


def test_a_slow_reader_does_not_put_back_what_its_own_handle_replaced(open_store):
    store = open_store()
    with open_store(cache_size=0) as loader:
        loader["a"] = "old"
    read = store._read_record

    def slowly(space, key):
        found = read(space, key)
        store["a"] = "new"
        return found

    store._read_record = slowly
    assert store["a"] == "old"
    store._read_record = read
    assert store["a"] == "new"


@pytest.mark.parametrize("writes", [["new"], ["new", "newer"]])
def test_what_a_reader_put_back_before_the_commit_is_gone_though_taking_in_the_new_value_is_interrupted(
    open_store, monkeypatch, writes
):
    store = open_store()
    store["a"] = store["b"] = "old"
    assert store["a"] == "old"

    def put_back(forget):
        def forgot(tier, *about):
            forget(tier, *about)
            # As another thread, which reads what the file has until the commit.
            store.get("a")

        return forgot

    with monkeypatch.context() as patch:
        for name in ("forget", "forget_one"):
            patch.setattr(MemoryTier, name, put_back(getattr(MemoryTier, name)))
        for value in writes:
            store["a"] = value

    def interrupt(*about):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store._tier.maker, "make", interrupt)
        store["b"]
    assert store["a"] == writes[-1]
    assert store["b"] == "old"
    assert_books_balance(store)


def test_another_handles_write_drops_that_key_alone(open_store):
    store, other = open_store(), open_store()
    store.set_many({"a": 1, "b": 2, "c": 3})
    other["a"] = 10
    del other["b"]
    assert store.get_many("abc") == {"a": 10, "c": 3}
    assert (store.stats().hits, store.stats().invalidations) == (1, 2)


def test_another_handles_clear_drops_everything(open_store):
    store, other = open_store(), open_store()
    store.set_many({"a": 1, "b": 2})
    other.clear()
    assert store.get("a") is None
    assert store.get_many("ab") == {}
    assert store.stats().entries == 0


def test_many_commits_of_another_handle_drop_too_much_and_never_too_little(open_store):
    store, other = open_store(), open_store(cache_size=0)
    store.set_many(dict.fromkeys(range(10), 0))
    for number in range(1_000):
        other[number % 7] = number
    assert store.get_many(range(10)) == {number: other[number] for number in range(10)}
