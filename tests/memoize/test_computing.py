"""When a memoized function is computed, and what is counted: once, where the store can be written to."""

from __future__ import annotations

import functools
import itertools
import threading

import pytest

import kvstore
from tests import forks
from tests.threads import PATIENCE_SECONDS, at_once, switching_often

MEMO = "memo"


# -- stores that can't be written to -------------------------------------------------------------------------------


def test_a_full_store_computes_and_does_not_keep(store_path, ran):
    with kvstore.open(store_path, durability="none", max_size=256 * 1024) as store:

        @store.memoize
        def function(n):
            ran.append(n)
            return bytes(100_000)

        for n in range(5):
            assert function(n) == bytes(100_000)
        stats = function.stats()
        assert stats.misses == 5
        assert 0 < stats.unstored < 5
        assert len(store.namespace(MEMO)) == 1 + 5 - stats.unstored


def test_a_read_only_store_answers_what_it_has_and_computes_the_rest(store, store_path, ran):
    def function(n):
        ran.append(n)
        return [n]

    store.memoize(function)(1)
    store.close()
    with kvstore.open(store_path, readonly=True) as reader:
        memoized = reader.memoize(function)
        assert memoized(1) == [1]
        assert memoized(2) == memoized(2) == [2]
        assert ran == [1, 2, 2]
        assert memoized.stats().unstored == 2


def test_a_closed_store_answers_nothing(store):
    @store.memoize
    def function(n):
        return n

    function(1)
    store.close()
    for call in (lambda: function(1), lambda: function(2), function.stats, function.clear):
        with pytest.raises(kvstore.StoreClosedError):
            call()


def test_a_hit_works_inside_a_transaction_and_a_miss_is_refused_before_it_is_computed(store, ran):
    @store.memoize
    def function(n):
        ran.append(n)
        return n

    function(1)
    with store.transaction():
        assert function(1) == 1
        with pytest.raises(kvstore.TransactionError):
            function(2)
    assert ran == [1]


# -- once ----------------------------------------------------------------------------------------------------------


def test_threads_that_ask_at_once_have_it_computed_once(store, again, ran):
    def function(n):
        ran.append(n)
        threading.Event().wait(0.05)
        return [n]

    functions = [store.memoize(function), again().memoize(function)]
    assert at_once(*(functools.partial(functions[n % 2], 7) for n in range(8))) == [[7]] * 8
    assert ran == [7]
    assert sum(each.stats().hits for each in functions) == 7


def test_who_waits_for_one_that_fails_takes_a_turn(store, ran):
    inside, go_on = threading.Event(), threading.Event()

    @store.memoize
    def function(n):
        ran.append(n)
        if len(ran) == 1:
            inside.set()
            go_on.wait(PATIENCE_SECONDS)
            raise ValueError("the first one's alone")
        return [n]

    def first():
        with pytest.raises(ValueError, match="the first one's alone"):
            function(1)

    def second():
        inside.wait(PATIENCE_SECONDS)
        threading.Timer(0.02, go_on.set).start()
        return function(1)

    assert at_once(first, second)[1] == [1]
    assert ran == [1, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
def test_an_interrupt_leaves_nothing_claimed(store, again, ran, error):
    def function(n):
        ran.append(n)
        if len(ran) == 1:
            raise error
        return n

    # A generator between the function and its caller turns this one into a RuntimeError, as Python's own do.
    with pytest.raises(RuntimeError if error is StopIteration else error):
        store.memoize(function)(1)
    assert at_once(functools.partial(again().memoize(function), 1)) == [1]


def test_counters_are_exact_under_threads(store):
    @store.memoize
    def function(n):
        return n

    with switching_often():
        at_once(*[lambda: [function(n % 50) for n in range(500)]] * 8)
    stats = function.stats()
    assert (stats.hits, stats.misses, stats.calls) == (3950, 50, 4000)


# -- stats ---------------------------------------------------------------------------------------------------------


def test_stats_say_what_was_asked_and_what_that_saved(store, again, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr("kvstore.memo_once.time.perf_counter", lambda: float(next(now)))

    def function(n):
        return n

    memoized = store.memoize(function)
    assert memoized.stats().hit_rate is None
    memoized(1), memoized(2), memoized(1), memoized(1), memoized(n=[1])
    stats = memoized.stats()
    assert (stats.calls, stats.hits, stats.misses, stats.hit_rate) == (5, 2, 3, 0.4)
    assert (stats.seconds_computed, stats.seconds_saved) == (3.0, 2.0)
    # After a restart the store knows still what a computation takes.
    later = again().memoize(function)
    later(1)
    assert (later.stats().seconds_computed, later.stats().seconds_saved) == (0.0, 1.0)
    assert memoized.stats() - stats == stats - stats


def test_a_call_that_raises_is_a_miss_and_one_that_is_refused_is_no_call(store):
    @store.memoize
    def function(n):
        raise ValueError

    with pytest.raises(ValueError):
        function(1)
    with pytest.raises(TypeError):
        function(object())
    assert (function.stats().calls, function.stats().misses) == (1, 1)


def test_a_hit_counts_as_one_lookup_of_the_store(store):
    @store.memoize
    def function(n):
        return n

    function(1), function("a")
    before = store.stats()
    for _ in range(10):
        function(1), function("a"), function(n=1)
    counted = store.stats() - before
    assert (counted.hits, counted.misses) == (30, 0)


def test_a_hit_stays_one_in_memory_when_others_write_something_else(store, again):
    one = store.memoize(name="one")(lambda n: n)
    all_of_them = store.memoize(name="all", batch=True)(lambda items: items)
    one(1), all_of_them([1, 2])
    other = again()
    before = store.stats()
    for n in range(3):
        other["other"] = n
        one(1)
        other["other"] = -n
        all_of_them([1, 2])
    counted = store.stats() - before
    assert (counted.hits, counted.misses) == (9, 0)


# -- other processes -----------------------------------------------------------------------------------------------


def test_a_forked_child_uses_what_is_known_and_adds_to_it(store, ran):
    @store.memoize
    def function(n):
        ran.append(n)
        return [n]

    function(1)
    assert forks.Child(lambda: (function(1), function(2), list(ran))).answer() == ([1], [2], [1, 2])
    assert function(2) == [2]
    assert ran == [1]
