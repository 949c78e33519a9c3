"""A store that was opened before a fork works after it, in the child and in the parent, whatever was going on."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

import kvstore
from kvstore import StoreBusyError
from tests.forks import STARTED, WARNING, Child, in_child
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS, until
from tests.tiers import assert_memory_is_true

pytestmark = pytest.mark.filterwarnings(WARNING)


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(STARTED)
        store.namespace("n")["x"] = 1
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


# -- a child ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_size", [0, 2_000, 1 << 20])
def test_a_child_reads_what_its_parent_has_written(store_path, store, cache_size):
    with kvstore.open(store_path, durability="none", cache_size=cache_size) as reader:
        reader.get_many(range(50))

        def read():
            return (
                reader.get_many(range(100)) == STARTED,
                [reader[number] for number in range(100)] == [[number] for number in range(100)],
                reader.get("missing"),
                dict(reader) == STARTED,
                reader.namespace("n")["x"],
                len(reader),
                reader.stats().records,
            )

        assert in_child(read) == (True, True, None, True, 1, 100, 101)
        assert read() == (True, True, None, True, 1, 100, 101)


def test_parent_and_child_read_what_the_other_has_written(store):
    def work():
        for number in range(50):
            until(lambda number=number: store.get("parent", -1) == number)
            store["child"] = number
        return store.stats().hits

    child = Child(work)
    for number in range(50):
        store["parent"] = number
        until(lambda number=number: store.get("child", -1) == number)
        assert store[number] == [number]
    assert child.answer() > 0
    assert store.stats().hits >= 50


def test_a_childs_write_drops_what_it_changes_in_the_parents_memory_and_nothing_else(store):
    store.get_many(range(100))
    before = store.stats()
    in_child(lambda: store.set_many({5: "new", 6: "new", "beside": 1}))
    assert store.get_many([4, 5, 6, 7]) == {4: [4], 5: "new", 6: "new", 7: [7]}
    assert (store.stats() - before).invalidations == 2


def test_increments_of_parents_children_and_grandchildren_all_count(store):
    def work(generations):
        below = [Child(lambda: work(generations - 1)) for _ in range(2)] if generations else []
        for _ in range(50):
            store.incr("n")
        for child in below:
            child.answer()

    work(2)
    assert store["n"] == 7 * 50


@pytest.mark.parametrize("first", ["reads", "writes", "does nothing"])
def test_a_grandchild_works_whatever_the_child_has_done_before(store, first):
    def work():
        if first == "reads":
            assert store.namespace("n")["x"] == 1
        if first == "writes":
            store[5] = "the child's"
        grandchild = in_child(lambda: (store[6], len(store), store.incr("n"), store.incr("n")))
        return grandchild, store.incr("n"), store[5]

    expected = "the child's" if first == "writes" else [5]
    assert in_child(work) == (([6], 100, 1, 2), 3, expected)
    assert store["n"] == 3


def test_a_child_may_do_everything(store, store_path, tmp_path):
    def work():
        with store.transaction() as tx:
            tx[5] = tx.pop(6)
            tx.namespace("m")["y"] = 2
        with store.snapshot() as view:
            store[5] = "later"
            assert view[5] == [6]
        assert store.get_or_set("made", lambda: "in the child") == "in the child"
        assert store.compare_and_set(5, "later", "swapped")
        store.drop_namespace("n")
        store.backup(tmp_path / "backup.kv")
        assert store.verify().ok
        with kvstore.open(store_path, durability="none", cache_size=0) as another:
            assert another[5] == store[5]
        store.close()
        with kvstore.open(store_path) as again:
            again["again"] = again[5]

    in_child(work)
    assert store.get_many([5, 6, "made", "again"]) == {5: "swapped", "made": "in the child", "again": "swapped"}
    assert store.namespaces() == ["m"]
    with kvstore.open(tmp_path / "backup.kv") as backup:
        assert backup[5] == "swapped"


def test_a_store_that_is_read_only_is_so_in_a_child(store_path):
    kvstore.open(store_path).close()
    with kvstore.open(store_path, readonly=True) as store:
        assert in_child(lambda: store.get("missing")) is None
        with pytest.raises(kvstore.ReadOnlyError):
            in_child(lambda: store.set("a", 1))


def test_a_child_waits_for_no_transaction_of_another_process_when_it_reads(store_path, store):
    with with_store(store_path, durability="none") as other:
        other("tx = store.transaction().__enter__(); tx[5] = 'theirs'")
        assert in_child(lambda: (store[5], store.get("missing"), dict(store) == STARTED)) == ([5], None, True)
        other("tx.__exit__(None, None, None)")
        assert in_child(lambda: store[5]) == "theirs"


def test_who_closes_the_store_closes_his_own(store_path, store):
    def close():
        store.close()
        with pytest.raises(kvstore.StoreClosedError):
            store.get(5)

    def go_on():
        until(lambda: store.get(5) == "closing")
        store[5] = "the child goes on"
        until(lambda: store.get(5) == "open again")

    for _ in range(3):
        in_child(close)
    assert store[5] == [5]
    child = Child(go_on)
    store[5] = "closing"
    store.close()
    with kvstore.open(store_path, durability="none") as again:
        until(lambda: again.get(5) == "the child goes on")
        again[5] = "open again"
        child.answer()


def test_a_closed_store_stays_closed_in_a_child(store_path):
    store = kvstore.open(store_path)
    store.close()
    with pytest.raises(kvstore.StoreClosedError):
        in_child(lambda: store.get("a"))

    def reopen():
        with kvstore.open(store_path) as again:
            again["a"] = 1

    in_child(reopen)
    with kvstore.open(store_path) as again:
        assert again["a"] == 1


def test_a_child_counts_as_one_that_has_the_store_open(store):
    child = Child(lambda: [store.set("child", "is here"), until(lambda: "go" in store)])
    until(lambda: "child" in store)
    for _ in range(3):
        with pytest.raises(StoreBusyError, match="another process"):
            store.compact()
    store["go"] = True
    child.answer()
    with pytest.raises(StoreBusyError, match="another process"):
        in_child(store.compact)
    store.compact()
    assert dict(store.scan(start=0)) == STARTED


def test_compacting_right_after_a_fork_is_refused_or_known_to_the_child(store):
    def work():
        for number in range(20):
            store.incr("n")
            assert store[number] == [number]

    compacted = 0
    for _ in range(15):
        child = Child(work)
        with contextlib.suppress(StoreBusyError):
            store.compact()
            compacted += 1
        store.incr("n")
        child.answer()
        assert store[5] == [5]
    assert store["n"] == 15 * 21
    assert dict(store.scan(start=0)) == STARTED


def test_children_leave_no_reader_slots_behind(store):
    for _ in range(30):
        assert in_child(lambda: (store.get("missing"), len(store))) == (None, 100)
    child = Child(lambda: [store.snapshot(), threading.Event().wait(PATIENCE_SECONDS)])
    until(lambda: len(store._engine.backend._env.readers()) > 1)
    child.kill()
    store[5] = 1
    assert store.stats().oldest_reader_lag == 0
    assert len(store._engine.backend._env.readers()) < 10


# -- several children ------------------------------------------------------------------------------


def test_preloaded_workers_write_at_the_same_time(fresh, store, tmp_path):
    calls = tmp_path / "calls"

    def make():
        with calls.open("a") as file:
            file.write("once\n")
        return os.getpid()

    def work(name):
        made = store.get_or_set("made", make)
        for number in range(100):
            store[name, number] = number
            store.incr("n")
            assert store[name, number] == number
            assert store[number] == [number]
        return made

    workers = [Child(lambda name=name: work(name)) for name in range(4)]
    while store.get("n", 0) < 400:
        assert store[7] == [7]
    made = {worker.answer() for worker in workers}
    assert made == {store["made"]}
    assert calls.read_text() == "once\n"
    assert sum(1 for _ in store.scan_keys(start=(), stop=(5,))) == 400
    assert_memory_is_true(store, fresh)


def test_children_go_on_when_their_parent_is_killed(store_path, store):
    # The grandchild stays, its parent is killed, this process watches both.
    def work():
        Child(lambda: [store.set("child", os.getpid()), until(lambda: store.get("go on")), store.set("went on", 1)])
        threading.Event().wait(PATIENCE_SECONDS)

    parent = Child(work)
    until(lambda: store.get("child") is not None)
    parent.kill()
    store["go on"] = True
    until(lambda: store.get("went on") == 1)
    assert dict(store.scan(start=0, stop=100)) == STARTED
