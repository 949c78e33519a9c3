"""Atomic operations under many threads: nothing is lost, nothing is done twice, and the time to live stays."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

import kvstore
from kvstore import UnstorableValueError
from tests.other_process import with_store
from tests.threads import at_once, switching_often
from tests.tiers import assert_books_balance, assert_memory_is_true

THREADS = 12
TIMES = 40


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none", clock=lambda: 1_700_000_000.0) as store:
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0, clock=lambda: 1_700_000_000.0) as fresh:
        yield fresh


@pytest.fixture(params=["", "n"])
def space(request, store):
    """The default space of the store, and a namespace."""
    return store.namespace(request.param) if request.param else store


@pytest.fixture(autouse=True)
def both_tiers_agree_afterwards(store, fresh):
    yield
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)


def threads_of(function, count=THREADS):
    """What ``function(number)`` gives in each of many threads, all at once."""
    with switching_often():
        return at_once(*(lambda number=number: function(number) for number in range(count)))


def reader_of(fresh, space):
    return fresh.namespace(space._space) if space._space else fresh


def test_every_increment_counts_and_none_gives_what_another_gave(space, fresh):
    given = threads_of(lambda number: [space.incr("n", number + 1) for _ in range(TIMES)])
    total = TIMES * sum(range(1, THREADS + 1))
    assert space["n"] == reader_of(fresh, space)["n"] == total
    totals = list(itertools.chain(*given))
    assert len(set(totals)) == len(totals)
    assert max(totals) == total
    assert all(part == sorted(part) for part in given)


def test_increments_of_many_keys_and_spaces_do_not_meet(store, fresh):
    spaces = [store, store.namespace("n"), store.namespace("m")]

    def count(number):
        for step in range(TIMES):
            spaces[(number + step) % 3].incr(("n", step % 4))

    threads_of(count)
    counts = [dict(space) for space in spaces]
    assert sum(sum(part.values()) for part in counts) == THREADS * TIMES
    expected = Counter(((number + step) % 3, step % 4) for number in range(THREADS) for step in range(TIMES))
    assert counts == [{("n", key): expected[which, key] for key in range(4)} for which in range(3)]


def test_floats_and_ints_of_any_size_are_counted(space):
    threads_of(lambda number: [space.incr("large", 2**70) for _ in range(5)])
    assert space["large"] == THREADS * 5 * 2**70
    threads_of(lambda number: [space.incr("half", 0.5) for _ in range(5)])
    assert space["half"] == THREADS * 2.5
    threads_of(lambda number: [space.incr("down", -1, default=1_000) for _ in range(5)])
    assert space["down"] == 1_000 - THREADS * 5


def test_each_swap_takes_the_place_of_exactly_one_value(space):
    """A counter made of nothing but compare_and_set."""
    space["n"] = 0
    lost = Counter()

    def count(number):
        done = 0
        while done < TIMES:
            found = space["n"]
            if space.compare_and_set("n", found, found + 1):
                done += 1
            else:
                lost[number] += 1

    threads_of(count, 6)
    assert space["n"] == 6 * TIMES


def test_one_of_many_swaps_wins(space):
    for number in range(20):
        space["swap"] = ["old", number]
        won = threads_of(lambda name, number=number: space.compare_and_set("swap", ["old", number], [name]), 6)
        assert sum(won) == 1
        assert won[space["swap"][0]]


def test_every_modification_is_of_the_value_before_it(space):
    space["log"] = []
    threads_of(
        lambda number: [space.modify("log", lambda log, step=step: [*log, (number, step)]) for step in range(15)],
        6,
    )
    log = space["log"]
    assert sorted(log) == [(number, step) for number in range(6) for step in range(15)]
    for number in range(6):
        assert [step for who, step in log if who == number] == list(range(15))


def test_a_modification_may_use_the_store(space):
    def copy(found):
        space["copy"] = found
        return space.incr("n")

    space["a"] = "first"
    assert space.modify("a", copy) == 1
    assert dict(space) == {"a": 1, "copy": "first", "n": 1}


def test_one_of_many_adds_and_defaults_wins_and_the_others_see_it(space):
    for key in range(20):
        added = threads_of(lambda number, key=key: space.add(("add", key), number), 6)
        assert sum(added) == 1
        assert added[space["add", key]]
        given = threads_of(lambda number, key=key: space.setdefault(("default", key), [number]), 6)
        assert len({found for (found,) in given}) == 1
        assert given[0] == space["default", key]


def test_every_item_is_taken_once(space):
    space.set_many({number: [number] for number in range(200)})

    def all_taken(number):
        found = []
        try:
            while True:
                match number % 3:
                    case 0:
                        found.append(space.popitem()[0])
                    case 1:
                        found += space.pop(next(iter(space)), ())
                    case _:
                        key = next(reversed(space))
                        found += [key] * space.delete(key)
        except (KeyError, StopIteration):
            return found

    taken = threads_of(all_taken, 6)
    assert sorted(itertools.chain(*taken)) == list(range(200))
    assert len(space) == 0


def test_deleting_many_counts_each_key_in_one_place(space):
    space.set_many({number: number for number in range(300)})
    deleted = threads_of(lambda _: sum(space.delete_many(range(start, start + 30)) for start in range(0, 300, 30)))
    assert sum(deleted) == 300


def test_a_factory_runs_once_however_many_ask(space):
    calls = Counter()

    def make(key):
        calls[key] += 1
        return [key]

    given = threads_of(lambda _: [space.get_or_set(key, lambda key=key: make(key)) for key in range(TIMES)], 8)
    assert given == [[[key] for key in range(TIMES)]] * 8
    assert calls == dict.fromkeys(range(TIMES), 1)


def test_a_factory_that_raises_lets_another_one_try(space):
    tries = itertools.count()

    def make():
        if next(tries) < 3:
            raise ZeroDivisionError
        return "made"

    def ask(_):
        try:
            return space.get_or_set("key", make)
        except ZeroDivisionError:
            return "raised"

    given = threads_of(ask, 8)
    assert Counter(given) == {"raised": 3, "made": 5}
    assert next(tries) == 4


@pytest.mark.parametrize("made", [object(), {"a": print}])
def test_what_a_factory_makes_must_be_storable(space, made):
    with pytest.raises(UnstorableValueError):
        space.get_or_set("key", lambda: made)
    assert space.get_or_set("key", lambda: "other") == "other"


def test_the_time_to_live_stays_under_many_threads(space, fresh):
    for key, value in (("n", 0), ("log", []), ("swap", 0)):
        space.set(key, value, ttl=1_000)

    def change(number):
        for step in range(10):
            space.incr("n")
            space.modify("log", lambda log, step=step: [*log, (number, step)])
            found = space["swap"]
            space.compare_and_set("swap", found, found + 1)
            space.setdefault("n", -1, ttl=5)
            space.add("n", -1, ttl=5)

    threads_of(change, 6)
    assert (space["n"], len(space["log"])) == (60, 60)
    for key in ("n", "log", "swap"):
        assert space.ttl(key) == pytest.approx(1_000, abs=0.002)
        assert reader_of(fresh, space).ttl(key) == pytest.approx(1_000, abs=0.002)


def test_touching_never_brings_back_an_older_value(space):
    space["n"] = 0
    done = threading.Event()

    def touch(_):
        while not done.is_set():
            assert space.touch("n", 1_000)

    def count():
        try:
            for step in range(1, 101):
                space.incr("n")
                assert space["n"] == step
        finally:
            done.set()

    with switching_often():
        at_once(count, *[lambda: touch(0)] * 3)
    assert space["n"] == 100


def test_operations_of_threads_and_processes_are_one_sequence(store_path, space):
    """Threads here and a process there count, and move tokens that must neither be lost nor doubled."""
    space.set_many({("token", number): number for number in range(40)})
    work = (
        "import threading\n"
        f"space = store.namespace({space._space!r}) if {space._space!r} else store\n"
        "moved = []\n"
        "def work():\n"
        "    for step in range(40):\n"
        "        space.incr('n')\n"
        "        found = space.pop(('token', step), None)\n"
        "        if found is not None:\n"
        "            moved.append(found)\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    with (
        kvstore.open(store_path, durability="none") as store,
        with_store(store_path, durability="none") as other,
    ):
        here = {"store": store}
        other.tell(work)
        exec(work, here)
        other.answer()
        assert sorted(here["moved"] + other("moved")) == list(range(40))
        assert space["n"] == other("space['n']") == 2 * 2 * 40
        assert len(space) == 1
