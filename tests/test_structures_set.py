"""A set in the file is a set that survives, in key order: whatever is done to it, through whichever handle."""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import kvstore
import kvstore.keys
from kvstore import InvalidKeyError, StructureTypeError
from tests import strategies
from tests.mapping_contract import order

handles = st.sampled_from((0, 1))
members = st.sampled_from(("a", "b", "c", "", 1, -1, 0, b"a", ("a", 1), ("a", (b"\0",)))) | strategies.keys().filter(
    lambda key: len(kvstore.keys.encode(key)) <= 502
)
several = st.frozensets(members, max_size=5)
IN_PLACE = {
    "update": lambda target, *others: target.update(*others),
    "difference_update": lambda target, *others: target.difference_update(*others),
    "intersection_update": lambda target, *others: target.intersection_update(*others),
    "symmetric_difference_update": lambda target, *others: target.symmetric_difference_update(others[0]),
}


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture(params=["store", "namespace", "transaction", "transaction's namespace"])
def space(request, store):
    """Every face that a set can be written through."""
    if request.param == "store":
        yield store
    elif request.param == "namespace":
        yield store.namespace("n")
    else:
        with store.transaction() as tx:
            yield tx if request.param == "transaction" else tx.namespace("n")


class SetMachine(RuleBasedStateMachine):
    """Two handles of one file with two sets each, one in a namespace, and sets that do the same."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.judges = (set(), set())
        self.stores = []

    @initialize()
    def open(self):
        self.stores = [kvstore.open(self.folder / "store.kv", durability="none", cache_size=n) for n in (0, 2**20)]
        self.sets = [(store.set_of("k"), store.namespace("n").set_of("k")) for store in self.stores]

    @rule(handle=handles, which=handles, member=members)
    def add(self, handle, which, member):
        assert self.sets[handle][which].add(member) == (member not in self.judges[which])
        self.judges[which].add(member)

    @rule(handle=handles, which=handles, member=members)
    def discard(self, handle, which, member):
        assert self.sets[handle][which].discard(member) == (member in self.judges[which])
        self.judges[which].discard(member)

    @rule(handle=handles, which=handles)
    def pop(self, handle, which):
        if self.judges[which]:
            least = min(self.judges[which], key=order)
            assert self.sets[handle][which].pop() == least
            self.judges[which].remove(least)
        else:
            with pytest.raises(KeyError):
                self.sets[handle][which].pop()

    @rule(handle=handles, which=handles, change=st.sampled_from(sorted(IN_PLACE)), others=st.lists(several, max_size=2))
    def change_by_others(self, handle, which, change, others):
        others = others or [frozenset()]
        IN_PLACE[change](self.sets[handle][which], *others)
        IN_PLACE[change](self.judges[which], *others)

    @rule(handle=handles, which=handles, with_own=st.booleans(), change=st.sampled_from(sorted(IN_PLACE)))
    def change_by_a_stored_set(self, handle, which, with_own, change):
        other = which if with_own else 1 - which
        IN_PLACE[change](self.sets[handle][which], self.sets[handle][other])
        IN_PLACE[change](self.judges[which], set(self.judges[other]))

    @rule(handle=handles, others=several)
    def take_steps_in_a_transaction_that_fails(self, handle, others):
        with pytest.raises(ZeroDivisionError), self.stores[handle].transaction() as tx:
            inside, judge = tx.set_of("k"), set(self.judges[0])
            for target in (inside, judge):
                target.update(others)
                target.difference_update({"a", 1})
            assert list(inside) == sorted(judge, key=order)
            assert inside & tx.namespace("n").set_of("k") == judge & self.judges[1]
            raise ZeroDivisionError

    @rule(handle=handles, which=handles)
    def clear(self, handle, which):
        self.sets[handle][which].clear()
        self.judges[which].clear()

    @rule()
    def reopen(self):
        assert self.stores[0].verify().problems == ()
        self.close()
        self.open()

    @rule(handle=handles, foreign=several)
    def compare(self, handle, foreign):
        mine, judge = self.sets[handle][0], self.judges[0]
        for other, as_set in ((self.sets[handle][1], self.judges[1]), (foreign, foreign), (mine, judge)):
            assert (mine | other, mine & other) == (judge | as_set, judge & as_set)
            assert (mine - other, mine ^ other) == (judge - as_set, judge ^ as_set)
            assert (other | mine, other & mine) == (as_set | judge, as_set & judge)
            assert (other - mine, other ^ mine) == (as_set - judge, as_set ^ judge)
            assert (mine <= other, mine < other) == (judge <= as_set, judge < as_set)
            assert (mine >= other, mine > other) == (judge >= as_set, judge > as_set)
            assert (mine == other, mine != other) == (judge == as_set, judge != as_set)
            assert mine.isdisjoint(other) == judge.isdisjoint(as_set)

    @invariant()
    def both_handles_have_what_the_sets_have(self):
        for found in self.sets if self.stores else ():
            for mine, judge in zip(found, self.judges, strict=True):
                assert list(mine) == sorted(judge, key=order)
                assert list(reversed(mine)) == sorted(judge, key=order, reverse=True)
                assert len(mine) == len(judge)
                assert all(member in mine for member in judge)
        for store in self.stores:
            assert list(store.structures()) == ([("k", "set")] if self.judges[0] else [])
            assert store.namespaces() == (["n"] if self.judges[1] else [])
            assert len(store) == store.stats().records == 0

    def close(self):
        for store in self.stores:
            store.close()

    def teardown(self):
        self.close()
        shutil.rmtree(self.folder)


TestSetMachine = SetMachine.TestCase
TestSetMachine.settings = settings(max_examples=settings.default.max_examples // 10, stateful_step_count=25)


# -- one by one ------------------------------------------------------------------------------------


def test_a_set_that_nobody_has_filled_is_empty_and_not_there(space):
    tags = space.set_of("k")
    assert (len(tags), list(tags), bool(tags), "a" in tags) == (0, [], False, False)
    assert list(space.structures()) == []
    assert tags.touch(10) is False
    tags.clear()
    assert tags.discard("a") is False
    for call in (tags.pop, lambda: tags.remove("a"), tags.ttl):
        with pytest.raises(KeyError):
            call()


def test_it_does_what_a_set_does(space):
    tags = space.set_of("k")
    assert (tags.add("b"), tags.add("b"), tags.add(("a", 1)), tags.add(5)) == (True, False, True, True)
    assert list(tags) == ["b", 5, ("a", 1)]
    tags |= {"z", b"y"}
    tags -= {"b", "none"}
    tags &= {"z", 5, b"y", "x"}
    tags ^= {"z", "a"}
    assert list(tags) == [b"y", "a", 5]
    tags.remove(5)
    assert (tags.pop(), tags.pop()) == (b"y", "a")
    assert list(space.structures()) == []


def test_the_methods_take_any_iterables_and_the_operators_only_sets(store):
    tags = store.set_of("k")
    tags.update("ab", iter(["c"]))
    assert tags.union("xa", [1]) == {"a", "b", "c", "x", 1}
    assert tags.intersection("abz", iter("bz")) == {"b"}
    assert tags.difference("a", ["b"]) == {"c"}
    assert tags.symmetric_difference("cd") == {"a", "b", "d"}
    assert (tags.issubset("abcd"), tags.issuperset("ab"), tags.isdisjoint("xyz")) == (True, True, True)
    for call in (
        lambda: tags | "ab",
        lambda: tags & ["a"],
        lambda: ["a"] - tags,
        lambda: tags < [1],
        lambda: tags ^ None,
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        tags |= ["d"]
    assert tags != ["a", "b", "c"]
    assert tags == {"a", "b", "c"}


def test_what_the_operators_give_is_a_set_of_its_own(store):
    one = store.set_of("one")
    one.update("ab")
    union = one | {"c"}
    assert type(union) is set
    union.clear()
    assert list(one) == ["a", "b"]


def test_sets_of_two_stores_meet(store, tmp_path):
    with kvstore.open(tmp_path / "other.kv", durability="none") as elsewhere:
        here, there = store.set_of("k"), elsewhere.set_of("k")
        here.update("ab")
        there.update("bc")
        assert (here & there, here | there, here - there) == ({"b"}, {"a", "b", "c"}, {"a"})
        here |= there
        assert list(here) == ["a", "b", "c"]
        assert here > there


def test_both_operands_are_as_of_one_moment(store):
    """Members are moved from one set to the other all the time, so at no moment is one in both, or in none."""
    left, right = store.set_of("left"), store.set_of("right")
    left.update(range(20))
    done = threading.Event()

    def move():
        for number in range(300):
            source, target = ("left", "right") if number // 20 % 2 == 0 else ("right", "left")
            with store.transaction() as tx:
                tx.set_of(source).remove(number % 20)
                tx.set_of(target).add(number % 20)
        done.set()

    with ThreadPoolExecutor() as pool:
        moving = pool.submit(move)
        while not done.is_set():
            assert left & right == set()
            assert left | right == set(range(20))
            assert left.isdisjoint(right)
        moving.result()


def test_what_python_holds_equal_is_told_apart(store):
    tags = store.set_of("k")
    tags.update([1, "1", b"1"])
    assert (True in tags, 1.0 in tags, 1 in tags, None in tags) == (False, False, True, False)
    with pytest.raises(TypeError, match="unhashable"):
        _ = [1] in tags


def test_what_is_no_key_is_no_member(store):
    tags = store.set_of("k")
    for member in (1.5, True, None, "x" * 502, "\ud800", (1, 2.0)):
        with pytest.raises(InvalidKeyError):
            tags.add(member)
        with pytest.raises(InvalidKeyError):
            tags.update(["a", member])
        assert (member in tags, tags.discard(member)) == (False, False)
        with pytest.raises(KeyError):
            tags.remove(member)
    for member in ([1], {"a": 1}):
        for call in (tags.add, tags.discard, tags.remove, tags.__contains__):
            with pytest.raises(TypeError):
                call(member)
    assert list(store.structures()) == []


def test_the_longest_member_is_as_long_as_the_longest_key(store):
    tags = store.set_of("x" * 501)
    tags.add("y" * 501)
    assert ("y" * 501 in tags, "y" * 502 in tags, "y" * 5_000 in tags) == (True, False, False)
    with pytest.raises(InvalidKeyError, match="502"):
        tags.add("y" * 502)


def test_a_key_that_has_a_set_has_no_list(store):
    store.set_of("k").add(1)
    history = store.list("k")
    for call in (lambda: history.append(1), lambda: list(history), lambda: history[0], history.pop, history.clear):
        with pytest.raises(StructureTypeError, match="set"):
            call()
    assert list(store.set_of("k")) == [1]


def test_an_iteration_sees_one_moment(store):
    store.set_of("k").update(range(600))
    found = iter(store.set_of("k"))
    assert next(found) == 0
    store.set_of("k").clear()
    assert list(found) == list(range(1, 600))


def test_inside_a_transaction_a_set_may_change_while_it_is_walked(store):
    with store.transaction() as tx:
        numbers = tx.set_of("k")
        numbers.update(range(600))
        for number in numbers:
            if number % 2:
                numbers.discard(number)
        assert list(numbers) == list(range(0, 600, 2))
        numbers -= numbers
        assert not numbers


def test_a_snapshot_keeps_a_set_as_it_was(store):
    store.set_of("k").update("abc")
    with store.snapshot() as view:
        store.set_of("k").discard("b")
        frozen = view.set_of("k")
        assert (list(frozen), len(frozen), "b" in frozen) == (["a", "b", "c"], 3, True)
        assert frozen - store.set_of("k") == {"b"}
        assert not hasattr(frozen, "add")
