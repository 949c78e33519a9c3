"""The log of changes under a store: whatever happens to it, and to who writes it, nobody reads a stale value."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from kvstore import keys
from kvstore.coherence import COMPANY, RING_BYTES
from kvstore.memory import MemoryTier
from tests.forks import Child
from tests.other_process import with_plain_lmdb, with_store
from tests.rings import SLOTS
from tests.threads import PATIENCE_SECONDS


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many((number, [number]) for number in range(100))
        assert store.get_many(range(100)) == {number: [number] for number in range(100)}
        yield store


@pytest.fixture
def other(store_path, store):
    with with_store(store_path, durability="none") as other:
        yield other


def dropped(store, act):
    """How many entries memory has dropped because of what ``act`` does."""
    before = store.stats().invalidations
    act()
    store.get("missing")
    return store.stats().invalidations - before


def assert_true(store, expected):
    """Memory and file both say so."""
    for key in range(100):
        assert store.get(key) == expected.get(key)
    assert {key: value for key, value in store.items() if type(key) is int} == expected


def started(store):
    return {number: [number] for number in range(100)}


def test_another_process_drops_what_it_changes_and_nothing_else(store, other):
    assert dropped(store, lambda: other("store[5] = 'new'")) == 1
    assert dropped(store, lambda: other("store.set_many({6: 1, 7: 2, 'not in memory': 3})")) == 2
    assert dropped(store, lambda: other("store.delete_many([8, 9, 'never there'])")) == 2
    assert dropped(store, lambda: other("with store.transaction() as tx: tx[10] = 1; tx[11] = tx.pop(12)")) == 3
    assert dropped(store, lambda: other("store.namespace('n').set_many({13: 1})")) == 0
    assert dropped(store, lambda: [other(f"store['b {n}'] = 1") for n in range(1_000)]) == 0
    assert store.stats().entries == 92
    expected = started(store) | {5: "new", 6: 1, 7: 2, 10: 1, 11: [12]}
    assert_true(store, {key: expected[key] for key in expected if key not in {8, 9, 12}})


@pytest.fixture
def locked(store, monkeypatch):
    """How often a set, but for the one in sixteen that goes the long way, has taken the write lock."""
    taken = []
    take = store._engine.companion.take_write_byte
    monkeypatch.setattr(store._engine.companion, "take_write_byte", lambda: [taken.append(1), take()])

    def locked(act):
        taken.clear()
        act()
        return len(taken)

    return locked


def set_much(store):
    for number in range(16):
        store[number] = number


def test_a_process_takes_the_write_lock_from_the_moment_that_it_is_not_alone(store, store_path, locked):
    assert locked(lambda: set_much(store)) == 0
    with with_store(store_path, durability="none") as other:
        assert locked(lambda: set_much(store)) == 15
        assert other("store[5]") == 5
        # Never alone again, as far as it knows: another one may have come meanwhile.
        other("store.close()")
        assert locked(lambda: set_much(store)) == 15
    store.close()
    with kvstore.open(store_path, durability="none") as again:
        assert not again._engine.companion.head[COMPANY]


def test_a_child_of_a_fork_is_company(store, locked):
    child = Child(lambda: [store.set(5, 5), store[5]])
    assert child.answer() == [None, 5]
    assert locked(lambda: set_much(store)) == 15
    assert store[5] == 5


def test_who_comes_drops_what_a_process_changes_that_was_alone_and_nothing_else(store, store_path):
    set_much(store)
    with with_store(store_path, durability="none") as other:
        other("[store[number] for number in range(100)]")
        store[3] = "new"
        assert other("store[3], store.stats().invalidations, store.stats().entries") == ("new", 1, 100)


def published(store, act):
    """What the ring tells others that ``act`` has changed; None where it says nothing."""
    engine = store._engine
    before = max(cell[0] for cell in engine.backend.commits)
    act()
    engine.companion.changes.note(0, ())
    return engine.companion.changes.between(before, max(cell[0] for cell in engine.backend.commits))


WRITES = {
    "set": lambda store: store.set(5, "new"),
    "set_many": lambda store: store.set_many({5: "new"}),
    "transaction": lambda store: store.run(lambda transaction: transaction.set(5, "new")),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_handle_that_is_alone_publishes_nothing_and_one_in_company_what_it_changes(store, store_path, write):
    change = [("", keys.encode(5))]
    assert published(store, lambda: write(store)) is None
    with kvstore.open(store_path, durability="none") as second:
        assert published(store, lambda: write(store)) == change
        assert published(store, lambda: write(second)) == change
    assert published(store, lambda: write(store)) is None
    with with_store(store_path, durability="none"):
        assert published(store, lambda: write(store)) == change


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_reader_that_finds_a_commit_before_its_writer_tells_of_it_drops_what_it_changed(store, monkeypatch, write):
    seen = []

    def before(method):
        def wrote(tier, *about):
            # As another thread, between the file's having the commit and this.
            seen.append(dropped(store, lambda: None))
            assert store.get(5) == "new"
            assert store.get(6) == [6]
            return method(tier, *about)

        return wrote

    store.set(4, [4])  # after which a set goes the short way
    for name in ("wrote", "wrote_one"):
        monkeypatch.setattr(MemoryTier, name, before(getattr(MemoryTier, name)))
    write(store)
    store.set(7, [7])
    # The keys themselves were forgotten before their commits.
    assert seen == [0, 0]
    assert store.stats().entries == 100
    assert_true(store, started(store) | {5: "new"})


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_commit_that_was_not_published_for_who_came_that_instant_costs_him_everything(store, store_path, write):
    with kvstore.open(store_path, durability="none") as second:
        assert second.get_many(range(100)) == started(store)
        # As if the second one had come between the look whether there is anybody and the commit.
        store._engine.committer.shared = False
        assert dropped(second, lambda: [write(store), store._engine.companion.changes.note(0, ())]) == 100
        assert_true(second, started(store) | {5: "new"})


def test_a_namespace_that_another_process_drops_is_dropped_alone(store, other):
    names = store.namespace("n"), store.namespace("m")
    for space in names:
        space.set_many((number, number) for number in range(10))
    assert dropped(store, lambda: other("store.drop_namespace('n')")) == 10
    assert dict(names[0]) == {}
    assert names[0].get(5) is None
    assert dropped(store, lambda: other("store.namespace('m').clear()")) == 10
    assert names[1].get(5) is None
    assert store.stats().entries == 100


def test_what_the_ring_has_no_room_for_drops_everything(store, other):
    assert dropped(store, lambda: other("store.set_many((f'{n:>480}', n) for n in range(1_000))")) == 100
    assert store[5] == [5]


def test_one_that_has_slept_through_the_whole_ring_drops_everything(store, other):
    other("store[5] = 'new'")
    other(f"for n in range({SLOTS}): store['b'] = n")
    assert dropped(store, lambda: None) == 100
    assert_true(store, started(store) | {5: "new"})


KILLED = """
import os, signal
from kvstore.backends.lmdb_write import WriteTxn
from kvstore.coherence import Ring
from kvstore.memory import MemoryTier

def dying(before, method):
    def call(*arguments):
        if not before:
            method(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return call

if where == "before the ring":
    Ring.publish = dying(True, Ring.publish)
    Ring.publish_one = dying(True, Ring.publish_one)
elif where == "between ring and commit":
    WriteTxn.commit = dying(True, WriteTxn.commit)
    Ring.publish_one = dying(False, Ring.publish_one)
elif where == "after the commit":
    WriteTxn.commit = dying(False, WriteTxn.commit)
    MemoryTier.wrote = dying(True, MemoryTier.wrote)
"""
PLACES = ["before the ring", "between ring and commit", "after the commit"]


@contextlib.contextmanager
def killed_at(where, store_path, code):
    """Let a process do something and die at that place of its commit; for the block it is a zombie."""
    with with_store(store_path, durability="none") as victim:
        victim(f"where = {where!r}")
        victim(KILLED)
        victim.tell(code)
        os.waitid(os.P_PID, victim._process.pid, os.WEXITED | os.WNOWAIT)
        yield


@pytest.mark.parametrize("next_writer", ["none", "the reader", "another process", "a program without our code"])
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("changed", [{5: "new"}, {5: "new", 6: "new"}])
def test_a_writer_that_is_killed_leaves_nothing_stale(store_path, store, where, next_writer, changed):
    expected = started(store)
    act = "store[5] = 'new'" if len(changed) == 1 else f"store.set_many({changed})"
    with killed_at(where, store_path, act):
        if where == "after the commit":
            expected |= changed
        match next_writer:
            case "the reader":
                store[7] = "next"
            case "another process":
                with with_store(store_path, durability="none") as other:
                    other("store[7] = 'next'")
            case "a program without our code":
                with with_plain_lmdb(store_path) as foreign:
                    foreign("put(7, 'next')")
        if next_writer != "none":
            expected[7] = "next"
        assert_true(store, expected)


@pytest.mark.parametrize("write", ["store[{}] = 'new'", "store.set_many({{{}: 'new'}})", "del store[{}]"])
def test_what_a_writer_has_committed_is_told_after_it_was_killed(store, other, write):
    other("store[4] = [4]")  # after which a set goes the short way
    assert dropped(store, lambda: None) == 1
    other(write.format(5))
    other(write.format(6))
    other.kill()
    assert dropped(store, lambda: None) == 2


def test_after_compacting_those_who_come_and_those_who_were_there_still_tell_each_other(store, store_path):
    store.compact()
    with with_store(store_path, durability="none") as other:
        assert dropped(store, lambda: other("store[5] = 'theirs'")) == 1
        other("store.get_many(range(100)); before = store.stats()")
        store[6] = "ours"
        other("store.get_many(range(100))")
        assert other("(store.stats() - before).invalidations") == 1
        assert_true(store, started(store) | {5: "theirs", 6: "ours"})


def test_a_program_without_our_code_is_noticed(store_path, store, other):
    expected = started(store)
    with with_plain_lmdb(store_path) as foreign:
        foreign("put(5, 'foreign')")
        assert store[5] == "foreign"
        other("store[6] = 'new'")
        foreign("put(7, 'foreign')")
        store[8] = "own"
        foreign("delete(9)")
        expected |= {5: "foreign", 6: "new", 7: "foreign", 8: "own"}
        del expected[9]
        assert_true(store, expected)
        assert other("store.get(9)") is None
        assert other("store[8]") == "own"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_program_without_our_code_is_noticed_between_two_commits_of_a_store_that_is_alone(store, store_path, write):
    store.set(4, [4])  # after which a set goes the short way
    with with_plain_lmdb(store_path) as foreign:
        foreign("put(7, 'foreign')")
        write(store)
    assert store[7] == "foreign"
    assert_true(store, started(store) | {5: "new", 7: "foreign"})


def delete(ring):
    ring.unlink()


def truncate(ring):
    os.truncate(ring, 0)


def cut_off(ring):
    os.truncate(ring, 2_000)


def scribble(ring):
    with ring.open("r+b") as file:
        file.write(random.Random(1).randbytes(RING_BYTES))


def blank(ring):
    with ring.open("r+b") as file:
        file.write(bytes(RING_BYTES))


def replace(ring):
    ring.unlink()
    ring.write_bytes(bytes(RING_BYTES))


def take_anothers(ring):
    elsewhere = ring.with_name("elsewhere.kv")
    with kvstore.open(elsewhere, durability="none") as store:
        for number in range(200):
            store[number] = 1
        with ring.open("r+b") as file:
            file.write(elsewhere.with_name("elsewhere.kv-ring").read_bytes())


HARM = [delete, scribble, blank, replace, take_anothers]


@pytest.mark.parametrize("harm", HARM)
def test_whatever_is_done_to_the_ring_under_way_nothing_is_stale(store_path, store, other, harm):
    ring = store_path.with_name("store.kv-ring")
    expected = started(store)
    other("store[5] = 'before'")
    harm(ring)
    expected[5] = "before"
    assert_true(store, expected)
    with with_store(store_path, durability="none") as later:
        for number in range(6, 26):
            match number % 4:
                case 0:
                    store[number] = "own"
                case 1:
                    other(f"store[{number}] = 'other'")
                case 2:
                    later(f"store[{number}] = 'later'")
                case 3:
                    later(f"with store.transaction() as tx: tx[{number}] = 'transaction'")
            expected[number] = ("own", "other", "later", "transaction")[number % 4]
            for read in (store.get, lambda key: other(f"store.get({key})")):
                assert read(number) == expected[number]
                assert read(number - 1) == expected[number - 1]
            assert later(f"store.get({number})") == expected[number]
    assert_true(store, expected)


@pytest.mark.parametrize("harm", [*HARM, truncate, cut_off])
def test_whatever_is_done_to_the_ring_between_two_uses_it_is_mended(store_path, harm):
    kvstore.open(store_path).close()
    harm(store_path.with_name("store.kv-ring"))
    with kvstore.open(store_path, durability="none") as store, with_store(store_path, durability="none") as other:
        store.set_many((number, number) for number in range(10))
        assert dropped(store, lambda: other("store[5] = 'new'")) == 1
        assert store[5] == "new"


def test_a_copied_store_does_not_believe_the_ring_that_was_copied_with_it(store_path, store, tmp_path):
    copy = tmp_path / "copy.kv"
    store[5] = "the original's"
    for suffix in ("", "-ring"):
        shutil.copy(f"{store_path}{suffix}", f"{copy}{suffix}")
    with kvstore.open(copy, durability="none") as copied, with_store(copy, durability="none") as other:
        assert copied[5] == "the original's"
        store[5] = "still the original's"
        other("store[5] = 'the copy\\'s'")
        assert copied[5] == "the copy's"
    assert store[5] == "still the original's"


def test_what_was_read_before_compacting_is_not_kept_after_it(store_path, monkeypatch):
    offer, offered, may_go_on = MemoryTier.offer, threading.Event(), threading.Event()

    def slow_offer(*arguments):
        offered.set()
        assert may_go_on.wait(PATIENCE_SECONDS)
        return offer(*arguments)

    with kvstore.open(store_path, durability="none") as store, ThreadPoolExecutor(1) as pool:
        for number in range(20):
            store["key"] = number
        newest = max(cell[0] for cell in store._engine.backend.commits)
        with kvstore.open(store_path, durability="none") as reader:
            monkeypatch.setattr(MemoryTier, "offer", slow_offer)
            reading = pool.submit(reader.get, "key")
            assert offered.wait(PATIENCE_SECONDS)
            store.compact()
            store["key"] = "after compacting"
            while max(cell[0] for cell in store._engine.backend.commits) < newest:
                store["beside"] = 1
            may_go_on.set()
            assert reading.result(PATIENCE_SECONDS) == 19
            assert reader["key"] == store["key"] == "after compacting"
