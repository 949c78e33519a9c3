"""The log of changes: it tells what every commit changed, or nothing. Whatever happens to it, nobody reads a stale value."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore
from kvstore import keys
from kvstore.backends import OWN_SPACE
from kvstore.coherence import COMPANY, RING_BYTES, NoChanges, Ring
from kvstore.companion import _QUEUE_BYTE, Companion
from kvstore.memory import MemoryTier
from tests.forks import Child
from tests.other_process import with_plain_lmdb, with_store
from tests.threads import PATIENCE_SECONDS, until

STORE = (7, 11)
SLOTS = 1024


class File:
    """A ring's file in memory. ``broken`` makes it lose all writes but the first so many bytes of the next ones."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.left = None

    memory = None

    def read(self, size, position):
        return bytes(self.data[position : position + size])

    def write(self, data, position):
        if self.left is not None:
            data, self.left = data[: self.left], max(0, self.left - len(data))
        if data:
            self.data.extend(bytes(max(0, position + len(data) - len(self.data))))
            self.data[position : position + len(data)] = data

    @contextlib.contextmanager
    def losing_all_but(self, left):
        self.left = left
        yield
        self.left = None


class Going:
    """The writers that go on: the ring's own, and those in ``on``."""

    def __init__(self):
        self.on = set()

    def __call__(self, writer):
        return writer in self.on


NUMBERS = itertools.count(1)


def a_ring(file=None, store=STORE, going=None):
    """The ring as a writer of its own has it, whom nobody knows to go on unless ``going`` says so."""
    file = File() if file is None else file
    ring = Ring(file, store, Going() if going is None else going)
    if not file.data:
        ring.reset()
    ring.writer = next(NUMBERS)
    return ring


def log(ring, commit, *changed):
    if len(changed) == 1 and not changed[0][0]:
        ring.publish_one(commit, changed[0][1])
    else:
        ring.publish(commit, changed)
    ring.settle()


def change(name, space=""):
    return space, keys.encode(name)


# -- what the ring tells ---------------------------------------------------------------------------


def test_it_tells_what_each_commit_changed():
    ring = a_ring()
    log(ring, 5, change("a"), change("b", "n"))
    log(ring, 6, ("n", b""))
    log(ring, 7, change((1, b"\0"), "é"), change(-3))
    assert ring.between(4, 5) == [change("a"), change("b", "n")]
    assert ring.between(5, 7) == [("n", b""), change((1, b"\0"), "é"), change(-3)]
    assert ring.between(4, 7) == ring.between(4, 5) + ring.between(5, 7)
    assert ring.between(7, 7) == []


def test_what_it_was_not_told_it_does_not_know():
    ring = a_ring()
    log(ring, 5, change("a"))
    log(ring, 7, change("b"))
    assert ring.between(3, 5) is None
    assert ring.between(4, 7) is None
    assert ring.between(6, 8) is None
    assert ring.between(6, 7) == [change("b")]


def test_the_librarys_own_spaces_are_nobodys_business():
    ring = a_ring()
    log(ring, 5, (OWN_SPACE + "expiry", b"12345678"), change("a"))
    log(ring, 6, (OWN_SPACE + "expiry", b"12345678"))
    assert ring.between(4, 6) == [change("a")]


def test_all_see_what_one_was_told():
    file = File()
    log(a_ring(file), 5, change("a"))
    log(a_ring(file), 6, change("b"))
    assert Ring(file, STORE, Going()).between(4, 6) == [change("a"), change("b")]


def test_an_entry_counts_while_its_writer_goes_on():
    going = Going()
    ring = a_ring(going=going)
    ring.publish(5, [change("a"), change("b" * 300)])
    ring.publish_one(6, keys.encode("c"))
    assert ring.between(4, 6) is None
    going.on.add(ring.writer)
    assert ring.between(4, 6) == [change("a"), change("b" * 300), change("c")]
    going.on.clear()
    assert ring.between(4, 6) is None


def test_what_a_writer_has_settled_counts_for_ever():
    ring = a_ring()
    ring.publish(5, [change("a"), change("b" * 300)])
    ring.publish_one(6, keys.encode("c"))
    ring.settle()
    ring.writer = next(NUMBERS)
    assert ring.between(4, 6) == [change("a"), change("b" * 300), change("c")]


def test_a_writer_settles_nobody_elses_entries():
    file = File()
    a_ring(file).publish(5, [change("of one that died")])
    log(a_ring(file), 6, change("b"))
    assert a_ring(file).between(4, 5) is None
    assert a_ring(file).between(5, 6) == [change("b")]


def test_what_is_published_under_no_number_is_not_believed():
    ring = a_ring(going=lambda writer: True)
    ring.writer = 0
    ring.publish(5, [change("a")])
    ring.publish_one(6, keys.encode("b"))
    ring.settle()
    assert ring.between(4, 5) is None
    assert ring.between(5, 6) is None


def test_it_knows_so_many_commits_and_no_more():
    ring = a_ring()
    for commit in range(1, 2_500):
        log(ring, commit, change(commit))
    last = 2_499
    assert ring.between(last - SLOTS, last) == [change(commit) for commit in range(last - SLOTS + 1, last + 1)]
    assert ring.between(last - SLOTS - 1, last) is None
    assert ring.between(0, 2) is None


def test_it_knows_so_many_bytes_and_no_more():
    ring = a_ring()
    told = {}
    for commit in range(1, 200):
        told[commit] = [change(f"{commit} {number} " + "x" * 400) for number in range(commit % 90 + 1)]
        log(ring, commit, *told[commit])
    known = [commit for commit in told if ring.between(commit - 1, commit) is not None]
    assert known[-20:] == list(range(180, 200))
    assert 1 not in known
    assert all(ring.between(commit - 1, commit) == told[commit] for commit in known)


def test_a_commit_that_is_too_large_for_it_is_not_known_and_those_after_it_are():
    ring = a_ring()
    log(ring, 4, change("before"))
    log(ring, 5, *(change(f"{number:>500}") for number in range(1_000)))
    log(ring, 6, change("after"))
    assert ring.between(3, 4) == [change("before")]
    assert ring.between(4, 5) is None
    assert ring.between(5, 6) == [change("after")]


def test_without_a_ring_nothing_is_known():
    changes = NoChanges()
    changes.publish(5, [change("a")])
    changes.publish_one(5, keys.encode("a"))
    assert changes.between(4, 5) is None


# -- what may happen to it -------------------------------------------------------------------------


def a_used_file(commits=30):
    file = File()
    ring = a_ring(file)
    told = {commit: [change(f"{commit} {n}") for n in range(commit % 7)] for commit in range(1, commits)}
    for commit, changed in told.items():
        log(ring, commit, *changed)
    return file, told


def assert_nothing_is_missing(ring, told):
    """Of each commit the ring tells what it changed, or nothing."""
    for commit, changed in told.items():
        assert ring.between(commit - 1, commit) in (None, changed)


@pytest.mark.parametrize("store", [(7, 12), (8, 11)])
def test_a_ring_of_another_store_is_not_believed_and_not_made_ours(store):
    file, told = a_used_file()
    foreign = a_ring(file, store)
    log(foreign, 30, change("a"))
    log(foreign, 31, change("b" * 300))
    assert all(foreign.between(commit - 1, commit) is None for commit in [*told, 30, 31])
    assert_nothing_is_missing(a_ring(file), told)


@pytest.mark.parametrize("size", [1, 40, 64, RING_BYTES // 2, RING_BYTES, RING_BYTES + 999])
@pytest.mark.parametrize("fill", ["zeros", "ones", "noise"])
def test_a_file_that_is_no_ring_is_not_believed(fill, size):
    rng = random.Random(size)
    data = {"zeros": bytes, "ones": lambda size: b"\xff" * size, "noise": rng.randbytes}[fill](size)
    file = File(data)
    ring = a_ring(file)
    log(ring, 5, change("a"))
    log(ring, 6, change("b" * 300))
    assert ring.between(4, 5) is None
    assert ring.between(5, 6) is None


def test_after_a_reset_nothing_of_before_is_told():
    file, told = a_used_file()
    ring = a_ring(file)
    ring.reset()
    assert all(ring.between(commit - 1, commit) is None for commit in told)
    log(ring, 30, change("a"))
    assert ring.between(29, 30) == [change("a")]


@given(st.integers(0, 64 + 40 * 256), st.booleans())
def test_a_ring_that_is_cut_off_tells_what_is_whole(size, regrown):
    file, told = a_used_file()
    writer = a_ring(file)
    del file.data[size:]
    if regrown:
        file.data.extend(bytes(RING_BYTES - size))
    assert_nothing_is_missing(writer, told)
    log(writer, 30, change("a"))
    assert_nothing_is_missing(writer, {**told, 30: [change("a")]})


@given(st.data())
def test_a_ring_with_bytes_that_somebody_else_wrote_tells_what_is_whole(data):
    file, told = a_used_file()
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.one_of(st.integers(0, 64 + 40 * 256), st.integers(0, len(file.data) - 1)))
        bytes_ = data.draw(st.binary(min_size=1, max_size=60))
        file.data[position : position + len(bytes_)] = bytes_
    ring = a_ring(file)
    assert_nothing_is_missing(ring, told)
    log(ring, 30, change("a"))
    assert_nothing_is_missing(ring, {**told, 30: [change("a")]})


@given(st.integers(0, 300))
def test_a_writer_that_dies_in_the_middle_of_an_entry_leaves_none(bytes_written):
    file, told = a_used_file()
    writer = a_ring(file)
    with file.losing_all_but(bytes_written):
        writer.publish(30, [change("a"), change("b" * 100)])
    reader = Ring(file, STORE, Going())
    assert_nothing_is_missing(reader, told)
    # Somebody without this code has committed under that id.
    assert reader.between(29, 30) is None


@given(st.integers(0, 600), st.integers(0, 60), st.booleans())
def test_a_medium_that_loses_writes_settles_nothing_that_was_not_published(published, settled, long):
    file, told = a_used_file()
    a_ring(file).publish(30, [change("of one that died")])
    going = Going()
    writer = a_ring(file, going=going)
    going.on.add(writer.writer)
    changed = [change("of the one that committed"), change("b" * (300 if long else 100))]
    with file.losing_all_but(published):
        writer.publish(30, changed)
    assert Ring(file, STORE, going).between(29, 30) in (None, changed)
    with file.losing_all_but(settled):
        writer.settle()
    for reader in (Ring(file, STORE, Going()), Ring(file, STORE, going)):
        assert_nothing_is_missing(reader, told)
        assert reader.between(29, 30) in (None, changed)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["commits", "goes on", "dies", "fails", "dies after the commit", "is foreign", "is oversized"]),
        st.lists(st.integers(0, 300), min_size=1, max_size=4),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 3 * SLOTS))
@settings(max_examples=200)
def test_whatever_becomes_of_the_writers_nothing_that_was_committed_is_missing(steps, first):
    file, going, told = File(), Going(), {}
    reader = a_ring(file, going=going)
    commit = first
    for what, numbers in steps:
        changed = [change(number) for number in numbers]
        if what == "is foreign":
            told[commit] = changed
            commit += 1
            continue
        writer = a_ring(file, going=going)
        going.on.add(writer.writer)
        if what == "is oversized":
            changed = [change(f"{number} {index:>480}") for number in numbers for index in range(600)]
        writer.publish(commit, changed)
        if what not in {"dies", "fails"}:
            told[commit] = changed
            assert reader.between(commit - 1, commit) in (None, changed)
            if what not in {"dies after the commit", "goes on"}:
                writer.settle()
            commit += 1
        if what != "goes on":
            going.on.discard(writer.writer)
        assert_nothing_is_missing(reader, told)
    if told:
        everything = reader.between(first - 1, commit - 1)
        assert everything is None or set(everything) >= {one for changed in told.values() for one in changed}


# -- the companion: several in one process are as good as several processes, for their locks are ---------------------


@pytest.fixture
def companions(tmp_path):
    """Makes companions of one store."""
    made = []

    def make():
        made.append(Companion(str(tmp_path / "store.kv-ring"), STORE))
        return made[-1]

    yield make
    for companion in made:
        companion.close()


@pytest.fixture(params=["lock_writing", "try_lock_writing"])
def lock(request):
    """A way to the write lock, which makes a writer of a companion."""

    def lock(companion):
        assert getattr(companion, request.param)(*[None][: request.param == "lock_writing"]) is not False

    return lock


def test_an_entry_counts_until_its_writer_ends(companions, lock):
    writer, reader = companions(), companions()
    lock(writer)
    writer.changes.publish(5, [change("a")])
    writer.unlock_writing()
    assert reader.between(4, 5) == writer.between(4, 5) == [change("a")]
    writer.changes.writer = 0
    writer.end_writer()
    assert reader.between(4, 5) is writer.between(4, 5) is None
    lock(writer)
    assert reader.between(4, 5) is writer.between(4, 5) is None
    writer.changes.publish_one(5, keys.encode("b"))
    assert reader.between(4, 5) == writer.between(4, 5) == [change("b")]


def test_each_writer_is_another_one(companions, lock):
    numbers = set()
    for _ in range(5):
        companion = companions()
        lock(companion)
        numbers.add(companion.changes.writer)
        companion.unlock_writing()
    assert len(numbers) == 5


def test_an_entry_of_a_writer_that_died_does_not_count_under_the_next_one(companions, lock):
    dying, next_, reader = companions(), companions(), companions()
    lock(dying)
    dying.changes.publish(5, [change("a")])
    dying.close(settle=False)
    assert reader.between(4, 5) is None
    lock(next_)
    assert reader.between(4, 5) is next_.between(4, 5) is None


def test_what_a_writer_has_published_is_told_after_it_has_closed(companions, lock):
    writer, reader = companions(), companions()
    lock(writer)
    writer.changes.publish(5, [change("a"), change("b" * 300)])
    writer.close()
    assert reader.between(4, 5) == [change("a"), change("b" * 300)]


def is_queueing(holder):
    """Whether anybody else holds the queue's byte."""
    if holder._lock(_QUEUE_BYTE, 0):
        holder._unlock(_QUEUE_BYTE)
        return False
    return True


def test_who_waits_for_the_write_lock_is_not_overtaken(companions, lock):
    holder, waiting = companions(), companions()
    lock(holder)
    with ThreadPoolExecutor(1) as pool:
        had = pool.submit(waiting.lock_writing, PATIENCE_SECONDS)
        until(lambda: is_queueing(holder))
        holder.unlock_writing()
        assert not holder.try_lock_writing()
        had.result(PATIENCE_SECONDS)
        waiting.unlock_writing()
    assert holder.try_lock_writing()


def test_the_first_to_open_a_store_forgets_what_the_ring_knew(companions, lock):
    first = companions()
    lock(first)
    first.changes.publish(5, [change("a")])
    second = companions()
    assert second.between(4, 5) == [change("a")]
    first.close()
    assert second.between(4, 5) == [change("a")]
    second.close()
    assert companions().between(4, 5) is None


# -- the store -------------------------------------------------------------------------------------


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
