"""Batch functions: which items they are called with, what is kept, and what comes back."""

from __future__ import annotations

import functools
import threading

import pytest

import kvstore
from tests.threads import PATIENCE_SECONDS, at_once, until

MEMO = "memo"


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def again(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def batches():
    """The batches that a function was called with."""
    return []


@pytest.fixture
def embed(store, batches):
    @store.memoize(batch=True)
    def embed(texts):
        batches.append(texts)
        return [[text, len(text)] for text in texts]

    return embed


def embedded(*texts):
    return [[text, len(text)] for text in texts]


# -- which items ---------------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_computed_in_one_batch_and_all_comes_back_in_order(embed, batches):
    assert embed(["b", "a"]) == embedded("b", "a")
    assert embed(["c", "a", "d", "b"]) == embedded("c", "a", "d", "b")
    assert embed(["a", "b", "c", "d"]) == embedded("a", "b", "c", "d")
    assert batches == [["b", "a"], ["c", "d"]]


def test_what_occurs_twice_is_computed_once_and_each_place_has_its_own(embed, batches):
    for _ in range(2):
        results = embed(["a", "b", "a", "a"])
        assert results == embedded("a", "b", "a", "a")
        results[0].append("mine")
        assert results[2:] == embedded("a", "a")
    assert batches == [["a", "b"]]


def test_the_function_runs_with_at_most_so_many_items(store, batches):
    @store.memoize(batch=True, max_batch=3)
    def function(items):
        batches.append(items)
        return items

    assert function(list(range(8))) == list(range(8))
    assert batches == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert function([9, 1, 8, 2, 10, 11]) == [9, 1, 8, 2, 10, 11]
    assert batches[3:] == [[9, 8, 10], [11]]


def test_a_batch_without_items_calls_nothing(embed, batches):
    assert embed([]) == embed(()) == embed(iter(())) == []
    assert not batches


@pytest.mark.parametrize("items", [("a", "b"), iter(["a", "b"]), (text for text in "ab"), {"a": 1, "b": 2}.keys()])
def test_items_come_in_any_sequence_and_the_function_gets_a_list(store, batches, items):
    @store.memoize(batch="items")
    def function(items):
        batches.append(items)
        return tuple(items)

    if isinstance(items, type({}.keys())):
        with pytest.raises(TypeError, match="items must be a list"):
            function(items)  # a set has no order
        return
    assert function(items) == ["a", "b"]
    assert batches == [["a", "b"]]


@pytest.mark.parametrize("items", ["text", b"bytes", {"a": 1}, {1, 2}, 5, None], ids=str)
def test_what_is_no_sequence_of_items_is_refused(embed, batches, items):
    with pytest.raises(TypeError, match=r"embed\(\) works on batches: texts must be a list"):
        embed(items)
    assert not batches


def test_items_that_python_holds_equal_are_different_items(store):
    @store.memoize(batch=True)
    def function(items):
        return [repr(item) for item in items]

    items = [1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, None, (1,), (True,), [1], {"a": 1}, {"a": True}]
    for _ in range(2):
        assert function(items) == list(map(repr, items))
        assert function([1, 1, True]) == ["1", "1", "True"]
        assert function([1, 0]) == ["1", "0"]
        assert function([True, False]) == ["True", "False"]
        assert function(["1", 1]) == ["'1'", "1"]
    assert function.stats().misses == len(items)


def test_an_item_that_can_not_be_part_of_a_key_is_refused_by_its_place(embed, batches):
    with pytest.raises(TypeError, match=r"embed\(\): the argument texts\[1\]\[\"a\"\] is of the type object"):
        embed(["a", {"a": object()}])
    assert not batches


def test_long_items_are_items(embed, batches):
    texts = ["a" * 5_000, "b" * 5_000, "c"]
    for _ in range(3):
        assert embed(texts) == embedded(*texts)
    assert len(batches) == 1


# -- other arguments -----------------------------------------------------------------------------------------------


def test_other_arguments_are_part_of_every_items_key(store, batches):
    @store.memoize(batch=True, ignore="device")
    def function(items, scale=1, *, offset=0, device=None):
        batches.append((items, scale, offset))
        return [item * scale + offset for item in items]

    assert function([1, 2]) == function([1, 2], 1) == function(items=[2, 1], offset=0, device=object())[::-1] == [1, 2]
    assert function([1, 2], 3) == [3, 6]
    assert function([1, 3], scale=3, offset=1) == [4, 10]
    assert batches == [([1, 2], 1, 0), ([1, 2], 3, 0), ([1, 3], 3, 1)]


def test_the_items_may_be_any_parameter(store, batches):
    @store.memoize(batch="texts")
    def function(model, *, texts):
        batches.append((model, texts))
        return texts

    assert function("m", texts=["a"]) == function("m", texts=["a"]) == ["a"]
    assert function("n", texts=["b", "a"]) == ["b", "a"]
    assert batches == [("m", ["a"]), ("n", ["b", "a"])]


def test_the_items_of_a_method_come_after_self(store, batches):
    class Model:
        @store.memoize(batch=True, ignore="self")
        def embed(self, texts, lower=False):
            batches.append(texts)
            return texts

    assert Model().embed(["a"]) == Model().embed(["a"]) == ["a"]
    assert Model().embed(["a", "b"]) == ["a", "b"]
    assert batches == [["a"], ["b"]]


def test_one_item_has_a_key_and_items_are_forgotten_by_what_they_are(embed, store, batches):
    embed(["a", "b", "c"])
    assert store.namespace(MEMO)[embed.key("a")] == ["a", 1]
    assert embed.invalidate(["a", "c", "d", "a"]) == 2
    embed(["a", "b", "c"])
    assert batches == [["a", "b", "c"], ["a", "c"]]
    assert embed.clear() == 3
    embed(["a"])
    assert batches[2:] == [["a"]]


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [[], [1], [1, 2, 3], iter([1])], ids=["none", "one", "three", "an iterator"])
def test_another_number_of_results_than_of_items_is_an_error_and_nothing_is_kept(store, answer):
    @store.memoize(batch=True)
    def function(items):
        return answer

    with pytest.raises(ValueError, match=r"function\(\) returned \d results for 2 items; it must return one for each"):
        function(["a", "b"])
    assert not store.namespace(MEMO)


@pytest.mark.parametrize("answer", ["ab", b"ab", {"a": 1, "b": 2}, {1, 2}, None, 5], ids=str)
def test_an_answer_that_is_no_sequence_of_results_is_an_error(store, answer):
    @store.memoize(batch=True)
    def function(items):
        return answer

    with pytest.raises(TypeError, match=r"function\(\) must return a list, or an array of rows"):
        function(["a", "b"])


def test_results_may_come_from_a_generator(store):
    @store.memoize(batch=True)
    def function(items):
        return (item * 2 for item in items)

    assert function([1, 2]) == function([1, 2]) == [2, 4]


def test_none_is_a_result(store, batches):
    @store.memoize(batch=True)
    def function(items):
        batches.append(items)
        return [None for _ in items]

    assert function([1, 2]) == function([2, 1]) == [None, None]
    assert batches == [[1, 2]]


# -- failures ------------------------------------------------------------------------------------------------------


def test_what_succeeded_before_a_failure_is_kept(store, batches):
    broken = {5}

    @store.memoize(batch=True, max_batch=2)
    def function(items):
        batches.append(items)
        if not broken.isdisjoint(items):
            raise ArithmeticError(items)
        return items

    with pytest.raises(ArithmeticError):
        function(list(range(10)))
    assert batches == [[0, 1], [2, 3], [4, 5]]
    broken.clear()
    assert function(list(range(10))) == list(range(10))
    assert batches[3:] == [[4, 5], [6, 7], [8, 9]]
    assert (function.stats().misses, function.stats().hits) == (12, 4)


def test_results_beside_one_that_can_not_be_stored_are_kept(store, batches):
    @store.memoize(batch=True)
    def function(items):
        batches.append(items)
        return [object() if item == 2 and len(batches) == 1 else [item] for item in items]

    with pytest.raises(kvstore.UnstorableValueError):
        function([1, 2, 3])
    assert function([1, 2, 3]) == [[1], [2], [3]]
    assert batches == [[1, 2, 3], [2]]


def test_the_results_of_a_batch_are_one_commit(store, embed):
    commits = store._engine.backend.commits

    def commit():
        return max(cell[0] for cell in commits)

    before = commit()
    embed([f"{n}" for n in range(100)])
    assert commit() == before + 1


def test_a_full_store_computes_and_does_not_keep(store_path, batches):
    with kvstore.open(store_path, durability="none", max_size=256 * 1024) as store:

        @store.memoize(batch=True, max_batch=1)
        def function(items):
            batches.append(items)
            return [bytes(100_000) for _ in items]

        assert function([1, 2, 3, 4]) == [bytes(100_000)] * 4
        assert 0 < function.stats().unstored < 4


# -- once ----------------------------------------------------------------------------------------------------------


def test_batches_that_overlap_share_the_work(store, again, batches):
    def function(items):
        batches.append(items)
        threading.Event().wait(0.01)
        return [[item] for item in items]

    memoized = [each.memoize(batch=True, max_batch=4)(function) for each in (store, again)]
    wanted = [list(range(start, start + 30)) for start in (0, 10, 20, 5)]
    orders = [*wanted, *[items[::-1] for items in wanted]]
    answers = at_once(*[functools.partial(memoized[n % 2], items) for n, items in enumerate(orders)])
    assert answers == [[[item] for item in items] for items in orders]
    computed = [item for batch in batches for item in batch]
    assert sorted(computed) == list(range(50))


def test_a_batch_goes_on_with_what_nobody_computes_before_it_waits(store, batches):
    inside, go_on = threading.Event(), threading.Event()

    @store.memoize(batch=True)
    def function(items):
        batches.append(items)
        if 1 in items:
            inside.set()
            go_on.wait(PATIENCE_SECONDS)
        return items

    def second():
        inside.wait(PATIENCE_SECONDS)
        return function([1, 2, 3])

    def third():
        until(lambda: len(batches) == 2)
        # What the second batch has computed is there, though that batch still waits.
        answer = function([3, 2])
        go_on.set()
        return answer

    assert at_once(lambda: function([1]), second, third) == [[1], [1, 2, 3], [3, 2]]
    assert batches == [[1], [2, 3]]


def test_who_waits_for_a_batch_that_fails_computes_it(store, batches):
    inside, go_on = threading.Event(), threading.Event()

    @store.memoize(batch=True)
    def function(items):
        batches.append(items)
        if len(batches) == 1:
            inside.set()
            go_on.wait(PATIENCE_SECONDS)
            raise ArithmeticError
        return items

    def first():
        with pytest.raises(ArithmeticError):
            function([1, 2])

    def second():
        inside.wait(PATIENCE_SECONDS)
        threading.Timer(0.02, go_on.set).start()
        return function([2, 3])

    assert at_once(first, second)[1] == [2, 3]
    assert batches == [[1, 2], [3], [2]]


def test_a_batch_of_more_than_can_be_leased_is_computed(store, monkeypatch, batches):
    monkeypatch.setattr("kvstore.memo_once.LEASED_AT_ONCE", 3)

    @store.memoize(batch=True)
    def function(items):
        batches.append(items)
        return items

    assert function(list(range(10))) == list(range(10))
    assert batches == [list(range(10))]


def test_a_single_call_within_a_batch_does_not_wait_for_it(store, batches):
    @store.memoize(batch=True)
    def function(items):
        batches.append(items)
        return function([items[0]]) * len(items) if len(items) > 1 else items

    assert function([1, 2]) == [1, 1]


# -- lookups and statistics ----------------------------------------------------------------------------------------


def test_statistics_count_items(embed):
    embed(["a", "b", "a"])
    embed(["a", "c"])
    stats = embed.stats()
    assert (stats.calls, stats.hits, stats.misses) == (5, 2, 3)


def test_a_cached_batch_is_a_lookup_in_memory_for_each_item(embed, store):
    embed(["a", "b"])
    before = store.stats()
    embed(["b", "a", "b"])
    counted = store.stats() - before
    assert (counted.hits, counted.misses) == (3, 0)


def test_items_with_an_end_are_computed_again(store_path, batches):
    now = 1_000.0
    with kvstore.open(store_path, durability="none", clock=lambda: now) as store:

        @store.memoize(batch=True, ttl=60)
        def function(items):
            batches.append(items)
            return [[item] for item in items]

        function([1, 2])
        now += 30
        function([2, 3])
        now += 30
        assert function([1, 2, 3]) == [[1], [2], [3]]
        assert batches == [[1, 2], [3], [1, 2]]
