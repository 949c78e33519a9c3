"""Snapshots: frozen, whatever is written meanwhile. (Their half of the mapping contract: test_mapping.)"""

from __future__ import annotations

import gc
import random
import threading

import pytest

import kvstore
from kvstore import StoreBusyError, StoreClosedError, TransactionError
from kvstore.backends import lmdb_env
from tests.mapping_contract import ITEMS, contents
from tests.other_process import with_store
from tests.threads import at_once, switching_often


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


def everything(source):
    """What a store, or a snapshot of one, has: names, and items by name in forms that ``==`` compares to the last bit."""
    names = source.namespaces()
    return {"": contents(source)} | {name: contents(source.namespace(name)) for name in names}


@pytest.fixture
def filled(store):
    store.set_many(ITEMS)
    store.set("ends", 1, ttl=1_000)
    store.namespace("n").set_many({number: [number] for number in range(600)})
    store.namespace("m")["a"] = 1
    return store


def test_nothing_that_is_written_meanwhile_is_seen(filled, store_path):
    changes = [
        lambda: filled.set("a", "new"),
        lambda: filled.delete("b"),
        lambda: filled.set_many({"new": 1, "": 2}),
        lambda: filled.namespace("n").clear(),
        lambda: filled.drop_namespace("m"),
        lambda: filled.namespace("new").set("x", 1),
        lambda: filled.touch("ends", None),
        lambda: filled.run(lambda tx: tx.clear()),
        lambda: filled.import_records([], merge=True),
        lambda: filled.namespace("m").set("a", "again"),
    ]
    before = everything(filled)
    with filled.snapshot() as snapshot, with_store(store_path, durability="none") as other:
        assert everything(snapshot) == before
        for change in changes:
            change()
            assert everything(snapshot) == before
            assert "x" not in snapshot.namespace("new")
        other("store.set_many({'theirs': 1}); store.namespace('n').set('theirs', 2)")
        other("store.namespace('their own').set('a', 1)")
        assert everything(snapshot) == before
        assert list(snapshot.namespace("their own")) == []
        assert snapshot.ttl("ends") > 0
    assert everything(filled) != before


@pytest.mark.parametrize("many", [0, 1, 15, 16, 17, 48, 49, 255, 256, 257, 752, 753])
def test_iterators_of_a_snapshot_stand_side_by_side(store, many):
    store.set_many({number: [number] for number in range(many)})
    with store.snapshot() as snapshot:
        store.clear()
        assert list(zip(snapshot, reversed(snapshot), snapshot.values(), strict=True)) == [
            (number, many - 1 - number, [number]) for number in range(many)
        ]
        assert (
            list(snapshot.scan_keys(start=2, stop=400, reverse=True, limit=300))
            == (list(range(2, min(many, 400)))[::-1][:300])
        )


def test_a_snapshot_counts_no_lookups_and_leaves_memory_as_it_is(filled):
    filled.get_many(["a", "b"])
    before, order_before = filled.stats(), list(filled._front)
    with filled.snapshot() as snapshot:
        everything(snapshot)
        assert snapshot["a"] == 1
    assert filled.stats() == before
    assert list(filled._front) == order_before


def test_the_lag_of_the_oldest_reader_is_shown(store):
    store["a"] = 0
    assert store.stats().oldest_reader_lag == 0
    with store.snapshot() as older:
        for number in range(5):
            store["a"] = number
        with store.snapshot() as newer:
            store["a"] = 5
            assert store.stats().oldest_reader_lag == 6
            older.close()
            assert store.stats().oldest_reader_lag == 1
            assert newer["a"] == 4
    assert store.stats().oldest_reader_lag == 0


def test_what_a_snapshot_sees_is_not_used_again_and_afterwards_is(store):
    store.set_many({number: bytes(1_000) for number in range(1_000)})
    with store.snapshot() as snapshot:
        store.clear()
        for number in range(5):
            store["a"] = number
        with_it = store.stats()
        assert len(snapshot) == 1_000
        assert all(value == bytes(1_000) for value in snapshot.values())
    for number in range(5):
        store["a"] = number
    size = store.stats().file_bytes
    store.set_many({number: bytes(1_000) for number in range(900)})
    assert store.stats().file_bytes == size
    assert with_it.reclaimable_bytes > 1_000 * 1_000


def test_a_snapshot_inside_a_transaction_shows_what_was_committed(filled):
    before = everything(filled)
    with filled.transaction() as tx:
        tx["a"] = "mine"
        tx.namespace("n").clear()
        with filled.snapshot() as snapshot:
            assert everything(snapshot) == before


def test_many_threads_may_use_one_snapshot(filled):
    with filled.snapshot() as snapshot:
        expected = contents(snapshot)
        done = threading.Event()

        def read(seed):
            rng = random.Random(seed)
            for _ in range(20):
                assert snapshot["a"] == 1
                assert contents(snapshot) == expected
                assert len(snapshot.namespace("n")) == 600
                number = rng.randrange(600)
                assert snapshot.namespace("n").get_many([number]) == {number: [number]}

        def read_all():
            try:
                at_once(*(lambda seed=seed: read(seed) for seed in range(6)))
            finally:
                done.set()

        def write():
            while not done.is_set():
                filled.incr("count")
                filled.namespace("n").pop(5, None)

        with switching_often():
            at_once(read_all, write)


USES = {
    "[]": lambda snapshot: snapshot["a"],
    "get": lambda snapshot: snapshot.get("a"),
    "in": lambda snapshot: "a" in snapshot,
    "len": len,
    "list": list,
    "reversed": lambda snapshot: list(reversed(snapshot)),
    "items": lambda snapshot: list(snapshot.items()),
    "get_many": lambda snapshot: snapshot.get_many(["a"]),
    "ttl": lambda snapshot: snapshot.ttl("a"),
}


@pytest.mark.parametrize("use", USES)
def test_after_its_end_every_use_is_an_error(filled, use):
    with filled.snapshot() as snapshot:
        inside = snapshot.namespace("m")
        started = iter(filled.snapshot())
        USES[use](snapshot)
    for mapping in (snapshot, inside):
        with pytest.raises(TransactionError, match="snapshot"):
            USES[use](mapping)
    with pytest.raises(TransactionError):
        snapshot.namespaces()
    snapshot.close()
    # One that is kept alive by its iterator alone goes on.
    assert len(list(started)) == len(filled)


def test_an_iterator_ends_with_its_snapshot(filled):
    with filled.snapshot() as snapshot:
        iterators = [iter(snapshot.namespace("n")), iter(snapshot.namespace("n").items())]
        for iterator in iterators:
            next(iterator)
    for iterator in iterators:
        with pytest.raises(TransactionError):
            list(iterator)


def test_a_snapshot_that_is_not_closed_holds_nothing_up_once_it_is_gone(filled):
    snapshot = filled.snapshot()
    assert snapshot["a"] == 1
    del snapshot
    gc.collect()
    filled["a"] = filled["b"] = 2
    assert filled.stats().oldest_reader_lag == 0


@pytest.mark.parametrize("use", USES)
def test_a_snapshot_of_a_closed_store_says_so(filled, use):
    snapshot = filled.snapshot()
    filled.close()
    with pytest.raises((StoreClosedError, TransactionError)):
        USES[use](snapshot)
    snapshot.close()


def test_the_file_is_not_compacted_under_a_snapshot(filled, monkeypatch):
    monkeypatch.setattr(lmdb_env, "_QUIESCE_SECONDS", 0.05)
    before = everything(filled)
    with filled.snapshot() as snapshot:
        with pytest.raises(StoreBusyError, match="snapshot"):
            filled.compact()
        filled["a"] = "later"
        assert everything(snapshot) == before
    filled.compact()
    assert filled["a"] == "later"
