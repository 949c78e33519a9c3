"""Two processes and one store: what one has been told is done, the other sees, and neither's death holds the other up."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from tests.other_process import a_process
from tests.threads import PATIENCE_SECONDS, at_once, until


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def other(store_path, store):
    with a_process(store_path) as other:
        yield other


# -- what was acknowledged is what the other reads -------------------------------------------------


def test_each_reads_what_the_other_has_been_told_is_done(store, other):
    rng = random.Random(5)
    expected = {}
    spaces = {"": store, "n": store.namespace("n")}
    other("spaces = {'': store, 'n': store.namespace('n')}")

    def theirs(call, space, *arguments):
        return other(f"spaces[{space!r}].{call}(*{arguments!r})")

    def ours(call, space, *arguments):
        return getattr(spaces[space], call)(*arguments)

    for step in range(600):
        space, key = rng.choice(["", "n"]), rng.randrange(5)
        writer, reader = rng.sample([ours, theirs], 2)
        place = space, key
        match rng.randrange(5):
            case 0 | 1:
                writer("set", space, key, [step])
                expected[place] = [step]
            case 2:
                assert writer("delete", space, key) == (expected.pop(place, None) is not None)
            case 3:
                assert writer("add", space, key, step) == (place not in expected)
                expected.setdefault(place, step)
            case 4:
                writer("set_many", space, {key: step, 9: step})
                expected |= {place: step, (space, 9): step}
        assert reader("get", space, key) == writer("get", space, key) == expected.get(place)
        assert reader("__contains__", space, key) == (place in expected)
        assert reader("get_many", space, [key, 9]) == {
            name: expected[space, name] for name in (key, 9) if (space, name) in expected
        }


def test_increments_and_swaps_of_several_processes_all_count(store_path, store):
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(a_process(store_path)) for _ in range(2)]
        for other in others:
            other(
                "def work():\n"
                "    for _ in range(200):\n"
                "        store.incr('n')\n"
                "        store.modify('log', lambda log: [*log, os.getpid()], default=[])\n"
                "    return sum(store.add(f'add {n}', os.getpid()) for n in range(200))"
            )
        for other in others:
            other.tell("work()")
        for _ in range(200):
            store.incr("n")
        won = [other.answer() for other in others]
    assert store["n"] == 600
    log = store["log"]
    assert sorted(map(log.count, {*log})) == [200, 200]
    assert sum(won) == 200


def test_a_transaction_of_another_process_is_seen_whole_or_not_at_all(store, other):
    store.set_many({"a": 0, "b": 0})
    other.tell("for n in range(300):\n    with store.transaction() as tx: tx['a'] = n; tx['b'] = n")
    seen = set()
    while store["a"] < 299:
        found = store.get_many(["a", "b"])
        assert found["a"] == found["b"]
        seen.add(found["a"])
        earlier, later = store["a"], store["b"]
        assert earlier <= later
    assert other.answer() is None
    assert len(seen) > 1


# -- what others write stays out of the way --------------------------------------------------------


def test_the_hit_rate_stays_while_another_process_commits_what_is_not_in_memory(store, other):
    rng = random.Random(3)
    store.set_many((number, [number]) for number in range(500))

    def hit_rate(meanwhile):
        store.get_many(range(500))
        before = store.stats()
        for _ in range(1_000):
            meanwhile()
            for _ in range(10):
                key = rng.randrange(500)
                assert store[key] == [key]
        return (store.stats() - before).hit_rate

    alone = hit_rate(lambda: None)
    commits = iter(range(1_000))
    together = hit_rate(lambda: other(f"store['theirs {next(commits)}'] = 1"))
    assert alone == 1.0
    assert together >= 0.99 * alone
    assert next(commits, None) is None


def test_the_hit_rate_stays_while_another_process_commits_as_fast_as_it_can(store, other):
    store.set_many((number, [number]) for number in range(500))
    store.get_many(range(500))
    before = store.stats()
    other.tell("for n in range(1_000): store[f'theirs {n}'] = n")
    while "theirs 999" not in store:
        for key in range(0, 500, 7):
            assert store[key] == [key]
    other.answer()
    assert (store.stats() - before).hit_rate >= 0.99


# -- a process that is killed ----------------------------------------------------------------------


@contextlib.contextmanager
def killed_while(store_path, code, is_at_it):
    """A process that was killed while it did something, and which nobody has buried yet."""
    with a_process(store_path) as victim:
        victim.tell(code)
        until(is_at_it)
        victim._process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, victim._process.pid, os.WEXITED | os.WNOWAIT)
        yield


def test_the_transaction_of_a_killed_process_is_undone_and_the_next_one_goes_on(store_path, store, other, tmp_path):
    store.set_many({"a": 1, "b": 2})
    here = tmp_path / "here"
    code = f"tx = store.transaction().__enter__(); tx['a'] = 9; del tx['b']; open({str(here)!r}, 'x'); time.sleep(600)"
    with killed_while(store_path, code, here.exists):
        assert store.get_many("ab") == {"a": 1, "b": 2}
        store["c"] = 3
        other("store['d'] = 4")
        assert dict(store) == {"a": 1, "b": 2, "c": 3, "d": 4}
        assert store.verify().ok


def test_the_lease_of_a_killed_process_goes_to_another_one(store_path, store, other, tmp_path):
    here = tmp_path / "here"
    code = f"store.get_or_set('key', lambda: [open({str(here)!r}, 'x'), time.sleep(600)])"
    with killed_while(store_path, code, here.exists):
        other.tell("store.get_or_set('key', lambda: os.getpid())")
        mine = store.get_or_set("key", os.getpid)
        assert mine == other.answer() == store["key"]


def test_those_who_wait_for_a_killed_process_get_their_turn(store_path, store, tmp_path):
    here = tmp_path / "here"
    code = f"store.get_or_set('key', lambda: [open({str(here)!r}, 'x'), time.sleep(600)])"
    with a_process(store_path) as victim, ThreadPoolExecutor(2) as pool:
        victim.tell(code)
        until(here.exists)
        waiting = [pool.submit(store.get_or_set, "key", lambda name=name: name) for name in "ab"]
        with a_process(store_path) as writer:
            # A lease holds nobody up but those who want the same.
            writer("store['beside'] = 1")
        assert not any(one.done() for one in waiting)
        victim.kill()
        assert len({one.result(PATIENCE_SECONDS) for one in waiting} | {store["key"]}) == 1


def test_writers_that_wait_for_a_killed_process_get_their_turn(store_path, store, other, tmp_path):
    here = tmp_path / "here"
    with a_process(store_path) as victim, ThreadPoolExecutor(1) as pool:
        victim.tell(f"tx = store.transaction().__enter__(); tx['a'] = 9; open({str(here)!r}, 'x'); time.sleep(600)")
        until(here.exists)
        waiting = pool.submit(store.set, "mine", 1)
        other.tell("store['theirs'] = 1")
        assert store.get("a") is None
        assert not waiting.done()
        victim.kill()
        waiting.result(PATIENCE_SECONDS)
        assert other.answer() is None
        assert dict(store) == {"mine": 1, "theirs": 1}


@pytest.mark.parametrize("seed", range(6))
def test_a_process_killed_at_any_moment_of_its_writing_holds_nobody_up(store_path, store, other, seed):
    rng = random.Random(seed)
    with a_process(store_path) as victim:
        victim.tell("import itertools\nfor n in itertools.count(): store.set_many({'a': n, 'b': n})")
        until(lambda: store.get("a", 0) > 5)
        time.sleep(rng.random() * 0.02)
        victim.kill()
        found = store.get_many("ab")
        assert found["a"] == found["b"]
        assert other("store.get_many('ab')") == found
        for number in range(5):
            store["a"] = number
            assert other("store['a']") == number
            other(f"store['b'] = {-number}")
            assert store["b"] == -number


def test_reader_slots_of_dead_processes_are_taken_back(store_path, store):
    store["a"] = 0
    for _ in range(3):
        with a_process(store_path) as reader:
            reader("view = store.snapshot(); items = store.scan(); next(items)")
            store["a"] = 1
            assert store.stats().oldest_reader_lag >= 1
            reader.kill()
        assert store.stats().oldest_reader_lag == 0


def test_what_a_dead_process_was_reading_is_used_again(store_path, store):
    store["a"] = bytes(2_000)
    with a_process(store_path) as reader:
        reader("view = store.snapshot()")
        reader.kill()
    for number in range(3_000):
        store["a"] = bytes(2_000 + number % 7)
    assert store_path.stat().st_size < 5_000_000


# -- once ------------------------------------------------------------------------------------------


def test_a_factory_runs_once_across_threads_and_processes(store_path, store, tmp_path):
    calls = tmp_path / "calls"
    calls.touch()

    def make(name):
        with calls.open("a") as file:
            file.write(f"{name}\n")
        time.sleep(0.05)
        return [name]

    making = (
        "def make(name):\n"
        "    with open(calls, 'a') as file: file.write(f'{name}\\n')\n"
        "    time.sleep(0.05)\n"
        "    return [name]\n"
        "def ask():\n"
        "    names = [f'{os.getpid()} {n}' for n in range(4)]\n"
        "    with ThreadPoolExecutor(4) as pool:\n"
        "        return [*pool.map(lambda name: store.get_or_set('key', lambda: make(name)), names)]"
    )
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(a_process(store_path)) for _ in range(2)]
        for other in others:
            other(f"calls = {str(calls)!r}; from concurrent.futures import ThreadPoolExecutor")
            other(making)
        for other in others:
            other.tell("ask()")
        given = at_once(*(lambda name=name: store.get_or_set("key", lambda: make(name)) for name in "abcd"))
        for other in others:
            given += other.answer()
    assert len(given) == 12
    assert given == [store["key"]] * 12
    assert calls.read_text() == f"{store['key'][0]}\n"


def test_a_factory_that_raises_makes_room_for_another_process(store, other, tmp_path):
    here = tmp_path / "here"
    other(f"def fail():\n    open({str(here)!r}, 'x'); time.sleep(0.1); raise ZeroDivisionError('theirs')")
    other.tell("store.get_or_set('key', fail)")
    until(here.exists)
    assert store.get_or_set("key", lambda: "mine") == "mine"
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError.*theirs"):
        other.answer()
    assert other("store['key']") == "mine"


def test_factories_of_different_keys_run_at_the_same_time(store, other, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    other(
        "def make():\n"
        f"    open({str(there)!r}, 'x')\n"
        f"    while not os.path.exists({str(here)!r}): time.sleep(0.001)\n"
        "    return 1"
    )
    other.tell("store.get_or_set('a', make)")

    def make():
        here.touch()
        until(there.exists)
        return 2

    assert store.get_or_set("b", make) == 2
    assert other.answer() == 1


def test_a_factory_may_use_the_store_and_ask_for_other_keys(store, other):
    def make():
        store["beside"] = 1
        return [store.get_or_set("part", lambda: 2), other("store.get_or_set('theirs', lambda: store['beside'])")]

    assert store.get_or_set("whole", make) == [2, 1]
