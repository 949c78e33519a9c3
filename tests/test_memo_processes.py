"""Memoized functions in several processes: once among them, and found by each."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pickle
import sys

import pytest

import kvstore
from tests.other_process import OtherProcess
from tests.threads import until


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOIZED_LOG", str(tmp_path / "log"))
    (tmp_path / "log").touch()
    return lambda: (tmp_path / "log").read_text().splitlines()


@pytest.fixture
def path(store_path, monkeypatch):
    monkeypatch.setenv("MEMOIZED_STORE", str(store_path))
    return store_path


@pytest.fixture
def two(path, log):
    use = "from tests.memoized import square, squares, store"
    with OtherProcess(use) as one, OtherProcess(use) as other:
        yield one, other


def test_what_one_process_computes_another_finds(two, log):
    one, other = two
    assert one("square(3)") == other("square(n=3, pause=0.0)") == [9]
    assert one("squares([1, 2])") == [1, 4]
    assert other("squares([2, 3, 1])") == [4, 9, 1]
    assert sorted(log()) == ["square 3", "squares 1", "squares 2", "squares 3"]
    assert one("square.key(3)") == other("square.key(3)")
    assert other("square.stats().seconds_saved > 0")


def test_processes_that_ask_at_once_have_it_computed_once(two, log):
    for process in two:
        process.tell("square(5, 0.2)")
    assert [process.answer() for process in two] == [[25], [25]]
    assert log() == ["square 5"]
    assert sum(process("square.stats().hits") for process in two) == 1


def test_batches_of_processes_that_overlap_compute_each_item_once(two, log):
    one, other = two
    one.tell("squares(list(range(30)), 0.02)")
    other.tell("squares(list(range(39, 9, -1)), 0.02)")
    assert one.answer() == [n * n for n in range(30)]
    assert other.answer() == [n * n for n in range(39, 9, -1)]
    assert sorted(log()) == sorted(f"squares {n}" for n in range(40))


@pytest.mark.parametrize("call", ["square(5, 60)", "squares([4, 5], 60)"])
def test_what_a_process_was_computing_when_it_died_another_computes(two, log, call):
    one, other = two
    one.tell(call)
    until(log)
    other.tell(call.replace("60", "0") if "squares" in call else "square.__wrapped__(5) and square(5, 0)")
    one.kill()
    assert other.answer() == ([16, 25] if "squares" in call else [25])


def test_who_waits_for_a_process_goes_on_when_it_has_died(two, log):
    one, other = two
    one.tell("squares([4, 5], 60)")
    until(lambda: len(log()) == 2)
    other.tell("squares([5, 6], 0)")
    until(lambda: "squares 6" in log())
    one.kill()
    assert other.answer() == [25, 36]
    assert sorted(log()) == ["squares 4", "squares 5", "squares 5", "squares 6"]


def test_what_one_process_forgets_another_computes_again(two, log):
    one, other = two
    other("square(3), squares([3])")
    assert one("square(3), squares([3])") == ([9], [9])
    assert one("square.invalidate(3)") == 1
    assert one("squares.clear()") == 1
    assert other("square(3), squares([3])") == ([9], [9])
    assert len(log()) == 4


@pytest.fixture
def memoized(path, log):
    """The module, in this process."""
    sys.modules.pop("tests.memoized", None)
    import tests.memoized

    yield tests.memoized
    tests.memoized.store.close()
    del sys.modules["tests.memoized"]


def test_a_memoized_function_is_pickled_by_its_name(memoized):
    assert pickle.loads(pickle.dumps(memoized.square)) is memoized.square
    assert pickle.loads(pickle.dumps(memoized.squares)) is memoized.squares


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_pool_shares_what_its_workers_compute(memoized, log, method):
    memoized.square(0)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        assert list(pool.map(memoized.square, [0, 1, 2, 3, 1, 2])) == [[0], [1], [4], [9], [1], [4]]
        assert list(pool.map(memoized.both, [3, 3])) == [([9], [9, 16])] * 2
    assert sorted(log()) == ["square 0", "square 1", "square 2", "square 3", "squares 3", "squares 4"]
    assert memoized.squares([4]) == [16]


def test_the_results_are_records_like_any_other(memoized, path):
    memoized.square(3)
    with kvstore.open(path, readonly=True) as store:
        key = ("tests.memoized.square", 1)
        results = {found: value for found, value in store.namespace("memo").scan(prefix=key) if len(found) == 3}
    assert results == {memoized.square.key(3): [9]}


SHARE = """
import random
from tests.threads import at_once

def share(rounds):
    at_once(*[lambda seed=seed: share_alone(rounds, random.Random(seed)) for seed in range({seed}, {seed} + 3)])
    return unreliable.stats().misses

def share_alone(rounds, rng):
    for _ in range(rounds):
        wanted = [rng.randrange(200) for _ in range(rng.randrange(60))]
        assert unreliable(wanted, rng.choice(["a", "b"])) == [number * number for number in wanted]
"""

UNRELIABLE = """
@store.memoize(batch=True, max_batch=7, name="unreliable", ttl=0.2)
def computed(numbers, kind):
    if chance.random() < 0.1:
        raise ArithmeticError
    return [number * number for number in numbers]

import random
chance = random.Random()

def unreliable(numbers, kind):
    while True:
        try:
            return computed(numbers, kind)
        except ArithmeticError:
            pass

unreliable.stats = computed.stats
"""


@pytest.mark.torture
def test_batches_of_many_processes_never_wait_for_each_other(path, log):
    processes = [
        OtherProcess("from tests.memoized import store", UNRELIABLE, SHARE.format(seed=seed))
        for seed in (0, 10, 20, 30)
    ]
    with processes[0], processes[1], processes[2], processes[3]:
        for process in processes:
            process.tell("share(100)")
        assert all(process.answer() > 0 for process in processes)
