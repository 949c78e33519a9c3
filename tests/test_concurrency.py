"""Many threads, one truth: nothing stale, lost or counted wrong, and one's error is one's own."""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import threading

import pytest

import kvstore
from tests import policies
from tests.conftest import ROOT
from tests.threads import at_once, switching_often
from tests.tiers import assert_books_balance, assert_memory_is_true

THREADS = 16


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


# -- statistics ------------------------------------------------------------------------------------


def test_a_writer_costs_memory_the_keys_that_it_writes_and_no_others(store):
    store.set_many((number, [number]) for number in range(1_000))
    before, writes, ended = store.stats(), 500, threading.Event()

    def read():
        while not ended.is_set():
            for number in range(1_000):
                assert store[number] == [number]

    def write():
        try:
            for number in range(writes):
                store[number] = [number]
        finally:
            ended.set()

    with switching_often():
        at_once(read, read, write)
    # Each once, and once more where it was read again before its writer could tell of it.
    assert (store.stats() - before).invalidations <= 2 * writes


@pytest.mark.parametrize("policy", policies.NAMED)
def test_statistics_are_exact_under_sixteen_threads(store_path, policy):
    lookups, absent = 1_000, 200
    with kvstore.open(store_path, durability="none", cache_size=20_000, policy=policy) as store:
        store.set_many((number, [number]) for number in range(200))
        before = store.stats()

        def look_up(seed):
            rng = random.Random(seed)
            for step in range(lookups):
                key = "missing" if step % 5 == 0 else min(int(rng.paretovariate(0.5)), 200) - 1
                assert store.get(key) == (None if step % 5 == 0 else [key])
                if step % 100 == 0:
                    assert len(store.get_many([0, 1, "missing"])) == 2

        def write():
            for number in range(300):
                store[number % 50] = [number % 50]

        def watch():
            seen = before
            for _ in range(100):
                later = store.stats()
                assert min((later - seen).hits, (later - seen).misses, (later - seen).absent) >= 0
                seen = later

        with switching_often():
            at_once(*(lambda seed=seed: look_up(seed) for seed in range(THREADS)), write, watch)
        interval = store.stats() - before
        assert interval.lookups == THREADS * (lookups + 3 * lookups // 100)
        assert interval.absent == THREADS * (absent + lookups // 100)
        assert interval.hits > 0
        assert interval.evictions > 0
        assert_books_balance(store)


# -- never stale -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda number: number, lambda number: [number], lambda number: {"n": [number]}])
@pytest.mark.parametrize("handles", [1, 2])
def test_no_reader_is_behind_a_write_that_has_returned_and_none_goes_back(store_path, store, wrap, handles):
    writes, keys = 600, 3
    acknowledged = [0] * keys
    store.set_many({key: wrap(0) for key in range(keys)})
    done = threading.Event()

    def write(handle):
        try:
            for number in range(1, writes + 1):
                key = number % keys
                handle[key] = wrap(number)
                acknowledged[key] = number
        finally:
            done.set()

    def read(handle, seed):
        rng, seen = random.Random(seed), [0] * keys
        while not done.is_set():
            key = rng.randrange(keys)
            floor = acknowledged[key]
            number = unwrap(handle[key] if rng.random() < 0.7 else handle.get_many([key])[key])
            assert number >= floor
            assert number >= seen[key]
            seen[key] = number

    with kvstore.open(store_path, durability="none") as other, switching_often():
        reader = store if handles == 1 else other
        at_once(lambda: write(store), *(lambda seed=seed: read(reader, seed) for seed in range(6)))
        assert reader.stats().hits > 0


def unwrap(value):
    while type(value) is not int:
        (value,) = value.values() if type(value) is dict else value
    return value


def test_a_deleted_value_does_not_come_back(store):
    done, looked = threading.Event(), threading.Event()
    state = [("settled", None)]

    def write():
        try:
            # Longer on a machine that is so busy that no reader has looked between two changes yet.
            for number in itertools.takewhile(
                lambda n: n < 400 or (n < 100_000 and not looked.is_set()), itertools.count()
            ):
                for value, change in (
                    (number, lambda: store.set("key", number)),
                    (None, lambda: store.delete("key")),
                ):
                    state[0] = ("changing", value)
                    change()
                    state[0] = ("settled", value)
        finally:
            done.set()

    def read():
        while not done.is_set():
            before = state[0]
            found = store.get("key")
            if before is state[0] and before[0] == "settled":
                looked.set()
                assert found == before[1]

    with switching_often():
        at_once(write, *[read] * 5)
    assert looked.is_set()


def test_what_is_written_together_is_read_together(store):
    names = "abcd"
    done = threading.Event()
    store.set_many(dict.fromkeys(names, 0))

    def write():
        try:
            for number in range(1, 300):
                store.set_many(dict.fromkeys(names, number))
        finally:
            done.set()

    def read(look):
        while not done.is_set():
            found = look()
            assert sorted(found) == list(names)
            assert len(set(found.values())) == 1

    def one_at_a_time():
        while not done.is_set():
            for name in names:
                store.get(name)

    with switching_often():
        at_once(
            write,
            one_at_a_time,
            *[lambda: read(lambda: store.get_many(names))] * 2,
            lambda: read(lambda: dict(store.items())),
            lambda: read(lambda: dict(store.scan(start="a"))),
        )


@pytest.mark.parametrize("policy", policies.NAMED)
def test_memory_is_true_after_any_number_of_threads_has_done_anything(store_path, fresh, policy):
    with kvstore.open(store_path, durability="none", cache_size=6_000, policy=policy) as store:

        def work(seed):
            rng = random.Random(seed)
            for step in range(300):
                key = rng.randrange(20)
                match rng.randrange(8):
                    case 0 | 1:
                        store[key] = rng.choice([step, [step], {"a": [step]}, bytes(rng.randrange(3_000))])
                    case 2:
                        store.pop(key, None)
                    case 3:
                        store.set_many({key: step, key + 1: [step]})
                    case 4:
                        store.get_many(range(key, key + 4))
                    case _:
                        store.get(key)

        with switching_often():
            at_once(*(lambda seed=seed: work(seed) for seed in range(8)))
        assert_memory_is_true(store, fresh)
        assert_books_balance(store)


# -- atomic ----------------------------------------------------------------------------------------


def test_every_increment_counts(store):
    at_once(*[lambda: [store.incr("n") for _ in range(100)]] * THREADS)
    assert store["n"] == 100 * THREADS


def test_every_modification_counts(store):
    store["log"] = []
    at_once(
        *(
            lambda name=name: [store.modify("log", lambda log, step=step: [*log, (name, step)]) for step in range(20)]
            for name in range(8)
        )
    )
    log = store["log"]
    assert sorted(log) == [(name, step) for name in range(8) for step in range(20)]
    for name in range(8):
        assert [step for who, step in log if who == name] == list(range(20))


def test_one_of_many_wins(store):
    assert sum(at_once(*(lambda name=name: store.add("add", name) for name in range(THREADS)))) == 1
    assert len({*at_once(*(lambda name=name: store.setdefault("default", name) for name in range(THREADS)))}) == 1
    store["swap"] = "old"
    swaps = at_once(*(lambda name=name: store.compare_and_set("swap", "old", name) for name in range(THREADS)))
    assert sum(swaps) == 1
    assert swaps[store["swap"]]
    assert sum(at_once(*[lambda: store.delete("swap")] * THREADS)) == 1
    store["pop"] = "only"
    assert sorted(map(str, at_once(*[lambda: store.pop("pop", None)] * THREADS))) == ["None"] * (THREADS - 1) + ["only"]


def test_every_item_is_popped_once(store):
    store.set_many((number, number) for number in range(200))

    def take():
        taken = []
        with contextlib.suppress(KeyError):
            while True:
                taken.append(store.popitem()[0])
        return taken

    taken = at_once(*[take] * 8)
    assert sorted(itertools.chain(*taken)) == list(range(200))
    assert all(part == sorted(part) for part in taken)


# -- opening and closing ---------------------------------------------------------------------------


def test_many_threads_may_open_and_close_one_store(store_path):
    def work(name):
        for step in range(20):
            with kvstore.open(store_path, durability="none") as store:
                store[name, step] = step
                assert store[name, step] == step

    at_once(*(lambda name=name: work(name) for name in range(8)))
    with kvstore.open(store_path) as store:
        assert len(store) == 160


CLOSING = """
import sys, threading, kvstore
from kvstore import StoreClosedError

for round in range(25):
    store = kvstore.open(sys.argv[1], durability="none", cache_size=round % 2 * 1_000_000)
    store.set_many((number, [number]) for number in range(100))
    errors, started = [], threading.Barrier(9)
    def work(operation):
        started.wait()
        try:
            while True:
                operation()
        except StoreClosedError:
            pass
        except BaseException as error:
            errors.append(error)
    operations = [
        lambda: store[5], lambda: store.get("missing"), lambda: list(store.items()), lambda: store.set(5, 1),
        lambda: store.get_many(range(50)), lambda: len(store), lambda: store.stats(), lambda: store.incr("n"),
    ]
    threads = [threading.Thread(target=work, args=(operation,)) for operation in operations]
    for thread in threads:
        thread.start()
    started.wait()
    threading.Event().wait(0.002 * (round % 5))
    store.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not errors, errors
print("closed in time")
"""


def test_a_transaction_rolls_back_though_others_keep_reading(store_path):
    with kvstore.open(store_path, durability="none", cache_size=0) as store:
        store.set_many((number, number) for number in range(100))
        ended = threading.Event()

        def read(look):
            while not ended.is_set():
                look()

        def roll_back():
            try:
                for _ in range(20):
                    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
                        transaction["key"] = 1
                        raise ZeroDivisionError
                    assert not store.add(5, "other")
                    store["text"] = "no number"
                    with pytest.raises(TypeError):
                        store.incr("text")
            finally:
                ended.set()

        looks = [lambda: store.get(5), lambda: list(store.items())] * 3
        at_once(roll_back, *(lambda look=look: read(look) for look in looks))
        assert "key" not in store


def test_closing_under_readers_and_writers_ends_each_with_one_clear_error(store_path):
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, str(store_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed in time\n", "")
