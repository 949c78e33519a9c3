"""What holds of lists and sets alike: they end, are dropped, moved, checked and bounded as all that is in a store."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from kvstore import CorruptRecordError, StoreFullError, StructureTypeError, elements, keys
from tests.calls import calls_made
from tests.conftest import ROOT
from tests.forks import WARNING, Child
from tests.interrupts import everywhere
from tests.other_process import with_store
from tests.threads import switching_often

START = 1_700_000_000.0
MAX = 512 * 1024


class Clock:
    """Shows what it is set to."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(store_path, clock):
    with kvstore.open(store_path, durability="none", clock=clock) as store:
        yield store


@pytest.fixture(params=["list", "set in a namespace"])
def kind_and_space(request, store):
    return ("list", store) if request.param == "list" else ("set", store.namespace("n"))


@pytest.fixture
def space(kind_and_space):
    """The default space of the store, or a namespace."""
    return kind_and_space[1]


@pytest.fixture
def structure(kind_and_space):
    """One of each kind, empty."""
    kind, space = kind_and_space
    return structure_of(space, kind)


def structure_of(space, kind, key="k"):
    return space.list(key) if kind == "list" else space.set_of(key)


def fill(structure, values):
    (structure.extend if hasattr(structure, "extend") else structure.update)(values)


def put(structure, value):
    (structure.append if hasattr(structure, "append") else structure.add)(value)


def stored(store):
    """How many elements the file has, those that were given up included."""
    with store._engine.backend.read() as view:
        return elements.count_elements(view)


# -- expiry ----------------------------------------------------------------------------------------


def test_all_of_it_ends_at_once(structure, space, clock):
    fill(structure, [1, 2, 3])
    assert structure.ttl() is None
    assert structure.touch(10) is True
    clock.now += 9
    put(structure, 4)
    assert structure.ttl() == 1.0
    assert list(structure) == [1, 2, 3, 4]
    clock.now += 1
    assert (list(structure), len(structure), bool(structure), list(space.structures())) == ([], 0, False, [])
    assert structure.touch(10) is False
    with pytest.raises(KeyError):
        structure.ttl()


def test_what_is_put_in_after_the_end_is_a_new_one(structure, store, clock):
    fill(structure, range(50))
    structure.touch(10)
    clock.now += 10
    put(structure, "new")
    assert (list(structure), structure.ttl()) == (["new"], None)
    store.expire()
    assert stored(store) == 1
    assert store.verify().ok


def test_after_the_end_the_key_is_free_for_the_other_kind(structure, space, clock):
    other = structure_of(space, "set" if structure._kind == "list" else "list")
    put(structure, 1)
    with pytest.raises(StructureTypeError):
        put(other, 1)
    structure.touch(10)
    clock.now += 10
    put(other, 2)
    assert list(other) == [2]


@pytest.mark.parametrize("ttl", [100, None])
def test_it_can_be_given_another_end(structure, store, clock, ttl):
    fill(structure, range(5))
    structure.touch(10)
    structure.touch(ttl)
    clock.now += 10
    store.expire()
    assert (list(structure), structure.ttl()) == (list(range(5)), None if ttl is None else 90.0)


def test_an_end_that_makes_no_sense_is_refused(structure):
    put(structure, 1)
    for ttl in (0, -1, float("inf"), float("nan"), "1", True):
        with pytest.raises((ValueError, TypeError), match="ttl"):
            structure.touch(ttl)
    assert structure.ttl() is None


def test_expire_gives_back_all_that_has_ended_and_counts_a_structure_as_one(structure, space, store, clock):
    fill(structure, range(2_500))
    structure.touch(10)
    space.set("beside", 1, ttl=10)
    space.list("stays").append(1)
    clock.now += 10
    assert store.expire() == 2
    assert (stored(store), list(space.structures()), store.expire()) == (1, [("stays", "list")], 0)
    assert store.verify().ok


def test_writes_take_a_bounded_few_elements_along(structure, store, clock):
    fill(structure, range(200))
    structure.touch(10)
    clock.now += 10
    left = stored(store)
    for step in range(40):
        store["other"] = step
        now = stored(store)
        assert left - 20 <= now < left or now == left == 0
        left = now
    assert left == 0


def test_of_a_structure_half_of_which_is_freed_nothing_comes_back(structure, store, clock):
    fill(structure, range(200))
    structure.touch(10)
    clock.now += 10
    store["other"] = 1
    assert 0 < stored(store) < 200
    clock.now -= 10
    assert list(structure) == []
    assert store.verify().ok


def test_what_large_ones_leave_behind_is_freed_no_slower_than_it_is_made(store):
    """Each commit frees as many elements as it has changed, or more."""
    history = store.list("k")
    most = 0
    for _ in range(20):
        history.extend(range(2_000))
        history.clear()
        most = max(most, stored(store))
    assert most <= 3 * 2_000


# -- clearing and dropping -------------------------------------------------------------------------


def test_clearing_takes_no_longer_for_a_large_one(store):
    made = []
    for count in (3_000, 30_000):
        store.expire()
        fill(store.list("k"), range(count))
        made.append(calls_made(store.list("k").clear))
        assert list(store.list("k")) == []
    assert made[1] <= made[0] * 1.1
    store.expire()
    assert stored(store) == 0


def test_a_dropped_namespace_takes_its_structures_with_it(store):
    inside = store.namespace("n")
    for number in range(30):
        fill(inside.list(("list", number)), range(100))
        fill(inside.set_of(("set", number)), range(100))
    store.list("k").append("stays")
    assert store.namespaces() == ["n"]
    assert store.drop_namespace("n") is True
    assert (store.namespaces(), list(inside.structures()), list(inside.list(("list", 0)))) == ([], [], [])
    assert store.drop_namespace("n") is False
    inside.list(("list", 0)).append("new")
    assert store.verify().ok
    store.expire()
    assert (list(inside.list(("list", 0))), list(store.list("k")), stored(store)) == (["new"], ["stays"], 2)
    assert list(inside.structures()) == [(("list", 0), "list")]
    assert store.verify().ok


def test_clearing_the_mapping_leaves_structures_alone(structure, space):
    space["k"] = 1
    fill(structure, range(3))
    space.clear()
    assert (len(space), list(structure)) == (0, [0, 1, 2])


def test_a_backup_and_a_compact_copy_have_them(structure, store, space, tmp_path, clock):
    fill(structure, range(100))
    structure.touch(50)
    store.compact()
    assert list(structure) == list(range(100))
    store.backup(tmp_path / "copy.kv")
    with kvstore.open(tmp_path / "copy.kv", clock=clock) as copy:
        there = structure_of(copy.namespace("n") if space is not store else copy, structure._kind)
        assert (list(there), there.ttl()) == (list(range(100)), 50.0)
        assert copy.verify().ok


def test_a_store_with_as_many_namespaces_as_it_can_have_has_structures_too(store_path, clock):
    with kvstore.open(store_path, durability="none", clock=clock) as store:
        with store.transaction() as tx:
            for number in range(250):
                tx.namespace(f"n{number}")["a"] = number
        for number in range(0, 500, 50):
            store.namespace(f"n{number}").list("k").append(number)
        store.namespace("n0").list("k").touch(10)
    with kvstore.open(store_path, durability="none", clock=clock) as store:
        assert len(store.namespaces()) == 255
        assert list(store.namespace("n450").list("k")) == [450]
        assert store.verify().records == 260


# -- beside the mapping ----------------------------------------------------------------------------


def test_the_mapping_and_its_statistics_know_nothing_of_them(store):
    store.set_many({number: [number] for number in range(10)})
    space = store.namespace("n")
    space["a"] = 1
    before = store.stats()
    history, tags = store.list(3), space.set_of("a")
    fill(history, range(100))
    fill(tags, range(100))
    assert (history[5], 7 in tags, len(history), history.pop(), tags.pop()) == (5, True, 100, 99, 0)
    after = store.stats()
    for counter in ("lookups", "hits", "misses", "invalidations", "evictions", "entries", "memory_bytes", "records"):
        assert getattr(after, counter) == getattr(before, counter), counter
    assert after.used_bytes > before.used_bytes
    assert (list(store), list(space.scan()), len(store)) == (list(range(10)), [("a", 1)], 10)
    assert (store[3], space["a"]) == ([3], 1)
    assert store.stats().hits == before.hits + 2


def test_structures_of_another_process_cost_the_memory_tier_nothing(store_path, store):
    store["a"] = 1
    with with_store(store_path, durability="none") as other:
        other("store.list('k').extend(range(100))")
        assert (store["a"], list(store.list("k"))) == (1, list(range(100)))
    assert (store.stats().hits, store.stats().invalidations) == (1, 0)


# -- what it costs ---------------------------------------------------------------------------------


def bytes_written(work):
    """What this process has given to the system to write meanwhile."""

    def so_far():
        with open("/proc/self/io") as file:
            return int(file.read().split("wchar: ")[1].split()[0])

    before = so_far()
    work()
    return so_far() - before


fresh = itertools.count()
CHANGES = {
    "append": lambda store: store.list("k").append(-1),
    "appendleft": lambda store: store.list("k").appendleft(-1),
    "a bounded append": lambda store: store.list("k", maxlen=len(store.list("k"))).append(-1),
    "pop": lambda store: store.list("k").pop(),
    "popleft": lambda store: store.list("k").popleft(),
    "replacing in the middle": lambda store: store.list("k").replace(len(store.list("k")) // 2, -1),
    "touch": lambda store: store.list("k").touch(10),
    "add": lambda store: store.set_of("s").add((5.5).as_integer_ratio()),
    "discard": lambda store: store.set_of("s").discard(next(reversed(store.set_of("s")))),
    "pop of a set": lambda store: store.set_of("s").pop(),
}
LOOKS = {
    "an index": lambda store: store.list("k")[len(store.list("k")) // 2],
    "an index from the end": lambda store: store.list("k")[-3],
    "a slice": lambda store: store.list("k")[3:6],
    "in": lambda store: 7 in store.set_of("s"),
    "len": lambda store: (len(store.list("k")), len(store.set_of("s"))),
    "ttl": lambda store: store.list("k").ttl(),
    "intersection with a small one": lambda store: store.set_of("s") & {3, 5, "x"},
    "isdisjoint": lambda store: store.set_of("s").isdisjoint({"x", "y"}),
}


@pytest.fixture(scope="module")
def large_and_small(tmp_path_factory):
    """Two stores, with a list and a set of ten elements and of 100,000."""
    folder = tmp_path_factory.mktemp("sizes")
    stores = []
    for count in (10, 100_000):
        store = kvstore.open(folder / f"{count}.kv", durability="none")
        store.list("k").extend(range(count))
        store.set_of("s").update(range(count))
        stores.append(store)
    yield stores
    for store in stores:
        store.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the system doesn't count what a process writes")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_writes_pages_of_the_way_to_an_element_however_many_there_are(large_and_small, change):
    small, large = (bytes_written(lambda store=store: change(store)) for store in large_and_small)
    # Two levels more of two trees at most, a page each, and what the list of free pages takes.
    assert small > 0
    assert large <= small + 8 * 4096


@pytest.mark.parametrize("look", [*CHANGES.values(), *LOOKS.values()], ids=[*CHANGES, *LOOKS])
def test_no_call_does_more_where_there_are_more_elements(large_and_small, look):
    for store in large_and_small:
        # Takes in what was written before, which is not this call's.
        store.stats()
    small, large = (calls_made(lambda store=store: look(store)) for store in large_and_small)
    assert large <= small + 10


# -- a store that is full --------------------------------------------------------------------------


@pytest.fixture
def bounded(store_path):
    with kvstore.open(store_path, durability="none", max_size=MAX) as bounded:
        yield bounded


def filled_up(history):
    """Append until nothing more goes in; how many did."""
    for number in range(10_000):
        try:
            history.append(bytes(1_000))
        except StoreFullError:
            return number
    raise AssertionError("it never is full")


def test_what_does_not_fit_is_refused_whole_and_loses_nothing(bounded):
    history = bounded.list("k")
    count = filled_up(history)
    assert count > 100
    with pytest.raises(StoreFullError):
        history.extend([bytes(1_000)] * 100)
    with pytest.raises(StoreFullError):
        history.appendleft(bytes(50_000))
    assert len(history) == count == len(list(history))
    assert bounded.verify().ok


def test_a_full_store_can_be_emptied_from_either_end_and_filled_again(bounded):
    history = bounded.list("k")
    count = filled_up(history)
    for _ in range(30):
        history.popleft()
        history.pop()
    assert filled_up(history) >= 40
    assert len(history) >= count - 20


def test_in_a_full_store_members_are_discarded_and_structures_cleared(bounded):
    tags, others = bounded.set_of("tags"), bounded.namespace("n").set_of("k")
    tags.update(range(1_000))
    others.update(range(1_000))
    filled_up(bounded.list("k"))
    for number in range(1_000):
        assert tags.discard(number) is True
    others.clear()
    bounded.list("k").clear()
    bounded.expire()
    assert stored(bounded) == 0
    assert filled_up(bounded.list("k")) > 100


def test_a_store_over_its_limit_can_still_be_emptied(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_of("tags").update(range(50_000))
        store.namespace("n").list("k").extend(range(10_000))
    with kvstore.open(store_path, durability="none", max_size=MAX) as store:
        with pytest.raises(StoreFullError):
            store.set_of("tags").add("more")
        assert store.set_of("tags").discard(7) is True
        assert store.drop_namespace("n") is True
        store.set_of("tags").clear()
        store.expire()
        assert store.set_of("tags").add("more") is True
        assert store.verify().ok


# -- many at once ----------------------------------------------------------------------------------


def test_threads_that_append_and_take_lose_nothing_and_take_nothing_twice(store):
    queue = store.list("queue")
    taken = []
    finished = threading.Event()

    def produce(name):
        for number in range(100):
            queue.append((name, number))

    def consume():
        while True:
            done = finished.is_set()
            try:
                taken.append(queue.popleft())
            except IndexError:
                if done:
                    return

    with switching_often(), ThreadPoolExecutor() as pool:
        consumers = [pool.submit(consume) for _ in range(2)]
        for producer in [pool.submit(produce, name) for name in "abc"]:
            producer.result()
        finished.set()
        for consumer in consumers:
            consumer.result()
    assert sorted(taken) == [(name, number) for name in "abc" for number in range(100)]
    assert list(store.structures()) == []


TAKE_ALL = """
taken = []
while True:
    try:
        taken.append(store.list("k").popleft())
    except IndexError:
        break
"""


def test_processes_that_append_and_take_lose_nothing_and_take_nothing_twice(store_path, store):
    with with_store(store_path, durability="none") as one, with_store(store_path, durability="none") as two:
        for name, process in (("one", one), ("two", two)):
            process.tell(f"for n in range(200): store.list('k').append(({name!r}, n)); store.set_of('s').add(n % 5)")
        for number in range(50):
            store.list("k").appendleft(("here", number))
        assert (one.answer(), two.answer()) == (None, None)
        found = list(store.list("k"))
        assert len(found) == 450
        for name, count in (("one", 200), ("two", 200)):
            assert [n for who, n in found if who == name] == list(range(count))
        assert found[:50] == [("here", number) for number in reversed(range(50))]
        assert (one("len(store.list('k'))"), two("store.list('k')[0]")) == (450, ("here", 49))
        store.list("k")[0] = "new"
        store.set_of("s").discard(3)
        assert (one("store.list('k')[0]"), two("list(store.set_of('s'))")) == ("new", [0, 1, 2, 4])
        found[0] = "new"
        for process in (one, two):
            process.tell(TAKE_ALL)
        assert (one.answer(), two.answer()) == (None, None)
        assert sorted(map(repr, one("taken") + two("taken"))) == sorted(map(repr, found))
        assert list(store.structures()) == [("s", "set")]


WRITER = """
import os, sys, kvstore
store = kvstore.open(sys.argv[1], durability=sys.argv[3])
number = int(sys.argv[2])
history, tags = store.list("k", maxlen=50), store.namespace("n").set_of("k")
while True:
    history.append([number] * 20)
    tags.add(number)
    if number % 3 == 0:
        history.popleft()
    os.write(1, b"%d\\n" % number)
    number += 1
"""


@pytest.mark.parametrize(("durability", "rounds"), [("full", 2), ("none", 5)])
def test_a_killed_process_loses_nothing_that_was_acknowledged(store_path, durability, rounds):
    rng = random.Random(durability)
    start = 0
    for _ in range(rounds):
        command = [sys.executable, "-c", WRITER, str(store_path), str(start), durability]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            lines = [writer.stdout.readline() for _ in range(rng.randrange(1, 30))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.read().splitlines(keepends=True)
        last = max(int(line) for line in lines if line.endswith(b"\n"))
        with kvstore.open(store_path) as store:
            found = list(store.list("k"))
            newest = found[-1][0]
            # What was under way when it was killed may be there or not.
            assert last <= newest <= last + 1
            assert found == [[number] * 20 for number in range(newest - len(found) + 1, newest + 1)]
            assert list(store.namespace("n").set_of("k")) == list(
                range(newest + (newest in store.namespace("n").set_of("k")))
            )
            assert store.verify().ok
            start = newest + 1
            store.namespace("n").set_of("k").add(newest)


INTERRUPTED = {
    "append": lambda store: store.list("k", maxlen=3).append("new"),
    "pop": lambda store: store.list("k").pop(),
    "add": lambda store: store.set_of("s").add("new"),
    "the last member": lambda store: store.set_of("s").discard("a"),
    "clear": lambda store: store.list("k").clear(),
}


# A generator that is interrupted where the garbage collector closes it says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("change", INTERRUPTED.values(), ids=INTERRUPTED)
def test_a_change_interrupted_anywhere_is_done_or_not(store, change):
    def prepare():
        with store.transaction() as tx:
            tx.list("k").clear()
            tx.list("k").extend([1, 2, 3])
            tx.set_of("s").clear()
            tx.set_of("s").add("a")

    def found():
        return list(store.list("k")), list(store.set_of("s")), len(store.set_of("s"))

    prepare()
    before = found()
    change(store)
    after = found()
    prepare()
    places = 0
    for place in everywhere(lambda: change(store)):
        places += 1
        assert found() in (before, after), place
        prepare()
    assert found() == after
    assert places > 20
    assert store.verify().ok


@pytest.mark.filterwarnings(WARNING)
def test_a_forked_child_uses_what_its_parent_has(store):
    history = store.list("k")
    history.append("parent")
    assert Child(lambda: history.append("child") or list(history)).answer() == ["parent", "child"]
    assert list(history) == ["parent", "child"]


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def damaged(store_path):
    """A closed store with a list and a set, and what changes its entries: ``change(key, new or None)``."""
    with kvstore.open(store_path, durability="none") as store:
        inside = store.namespace("n")
        inside.list("list").extend(["item zero", "item one", "item two"])
        inside.set_of("set").update(["a", "b", "c"])

    def change(work):
        with kvstore.open(store_path, durability="none") as store, store._engine.backend.transaction() as txn:
            work(txn, *(elements.head_at(txn, "n", keys.encode(key)) for key in ("list", "set")))
            txn.commit()

    return store_path, change


def spoilt(txn, key):
    raw = txn.get(elements.SPACE, key)
    txn.put(elements.SPACE, key, raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])


DAMAGES = {
    "an item": (lambda txn, items, _: spoilt(txn, items.at(1)), "list", "element 1 of the list: checksum"),
    "a member": (
        lambda txn, _, tags: spoilt(txn, tags.prefix + keys.encode("b")),
        "set",
        "element 1 of the set: checksum",
    ),
    "a list's head": (lambda txn, items, _: spoilt(txn, items.key), "list", "head of a list or set: checksum"),
    "a set's head": (lambda txn, _, tags: spoilt(txn, tags.key), "set", "head of a list or set: checksum"),
    "an item that is gone": (
        lambda txn, items, _: txn.delete(elements.SPACE, items.at(1)),
        "list",
        "missing, in 1 places",
    ),
    "a member that is gone": (
        lambda txn, _, tags: txn.delete(elements.SPACE, tags.prefix + keys.encode("b")),
        "set",
        "has 2 members, and says that it has 3",
    ),
    "an item in another place": (
        lambda txn, items, _: txn.put(elements.SPACE, items.at(3), txn.get(elements.SPACE, items.at(2))),
        "list",
        "element 3 of the list: checksum",
    ),
    "an end that the index doesn't know": (
        lambda txn, items, _: txn.put(elements.SPACE, items.key, ending(items)),
        "list",
        "touch it",
    ),
    "a list without items": (
        lambda txn, items, _: [txn.delete(elements.SPACE, items.at(place)) for place in range(3)],
        "list",
        "no elements",
    ),
    "what belongs to nothing": (
        lambda txn, items, _: txn.delete(elements.SPACE, items.key),
        None,
        "3 elements belong to no",
    ),
}


def ending(head):
    head.expires = int(START * 1000) * 2
    return head.written()


@pytest.mark.parametrize(("damage", "key", "message"), DAMAGES.values(), ids=DAMAGES)
def test_verify_names_the_structure_and_what_is_wrong(damaged, damage, key, message):
    path, change = damaged
    change(damage)
    with kvstore.open(path, durability="none") as store:
        report = store.verify()
        assert {problem.key for problem in report.problems} - {None} == ({key} if key else set())
        assert any(message in problem.message for problem in report.problems), report
        assert {problem.namespace for problem in report.problems if problem.key} <= {"n"}


@pytest.mark.parametrize("damage", ["an item", "a member", "a list's head", "a set's head"])
def test_what_is_damaged_is_never_returned_and_can_be_cleared(damaged, damage):
    path, change = damaged
    work, key, _ = DAMAGES[damage]
    change(work)
    with kvstore.open(path, durability="none") as store:
        structure = structure_of(store.namespace("n"), key, key)
        other = structure_of(store.namespace("n"), *["set" if key == "list" else "list"] * 2)
        for read in (lambda: list(structure), lambda: list(store.export_records())):
            with pytest.raises(CorruptRecordError, match=key) as caught:
                read()
            assert (caught.value.namespace, caught.value.key) == ("n", key)
        assert len(list(other)) == 3
        structure.clear()
        assert list(structure) == []
        put(structure, "new")
        assert list(structure) == ["new"]


def test_a_damaged_directory_is_reported(damaged):
    path, change = damaged
    change(lambda txn, *_: spoilt(txn, b"\x01n"))
    with kvstore.open(path, durability="none") as store:
        with pytest.raises(CorruptRecordError, match="directory"):
            list(store.namespace("n").list("list"))
        assert any("directory" in problem.message for problem in store.verify().problems)
