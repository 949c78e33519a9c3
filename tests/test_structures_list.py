"""A list in the file is a deque that survives: whatever is done to it, through whichever handle, and after every reopening."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections import deque
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import kvstore
from kvstore import InvalidKeyError, StructureTypeError, UnstorableValueError
from tests.mapping_contract import small_values, spoil
from tests.strategies import same


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture(params=["store", "namespace", "transaction", "transaction's namespace"])
def space(request, store):
    """Every face that a list can be written through."""
    if request.param == "store":
        yield store
    elif request.param == "namespace":
        yield store.namespace("n")
    else:
        with store.transaction() as tx:
            yield tx if request.param == "transaction" else tx.namespace("n")


def outcome(call):
    try:
        return call()
    except Exception as error:
        return (type(error).__name__,)


handles = st.sampled_from((0, 1))
bounds = st.sampled_from((None, None, 1, 2, 5))


# -- against a deque, step by step -----------------------------------------------------------------


class ListMachine(RuleBasedStateMachine):
    """Two handles of one file, each with a ``maxlen`` of its own, and a deque that does the same."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.judge = deque()
        self.stores = []

    @initialize(maxlens=st.tuples(bounds, bounds))
    def begin(self, maxlens):
        self.maxlens = maxlens
        self.open()

    def open(self):
        self.stores = [kvstore.open(self.folder / "store.kv", durability="none", cache_size=n) for n in (0, 2**20)]
        self.lists = [s.list("k", maxlen=n) for s, n in zip(self.stores, self.maxlens, strict=True)]

    def judge_adds(self, handle, values, left):
        for value in values:
            (self.judge.appendleft if left else self.judge.append)(value)
            while self.maxlens[handle] and len(self.judge) > self.maxlens[handle]:
                (self.judge.pop if left else self.judge.popleft)()

    @rule(handle=handles, value=small_values(), left=st.booleans())
    def append(self, handle, value, left):
        self.judge_adds(handle, [self.stored(value)], left)
        (self.lists[handle].appendleft if left else self.lists[handle].append)(value)
        spoil(value)

    def stored(self, value):
        """What a reader gets of it: an object of his own."""
        self.stores[0]["beside"] = value
        return self.stores[0].pop("beside")

    @rule(handle=handles, values=st.lists(st.integers(), max_size=8), left=st.booleans())
    def extend(self, handle, values, left):
        self.judge_adds(handle, values, left)
        (self.lists[handle].extendleft if left else self.lists[handle].extend)(iter(values))

    @rule(handle=handles, left=st.booleans())
    def pop(self, handle, left):
        expected = outcome(self.judge.popleft if left else self.judge.pop)
        assert same(outcome(self.lists[handle].popleft if left else self.lists[handle].pop), expected)

    @rule(handle=handles, index=st.integers(-9, 9), value=st.integers())
    def replace(self, handle, index, value):
        def put(target):
            target[index] = value

        assert outcome(lambda: put(self.lists[handle])) == outcome(lambda: put(self.judge))

    @rule(handle=handles, values=st.lists(st.integers(), max_size=3))
    def take_steps_in_a_transaction(self, handle, values):
        with self.stores[handle].transaction() as tx:
            self.steps(tx.list("k"), values)
        self.steps(self.judge, values)

    @rule(handle=handles, values=st.lists(st.integers(), max_size=3))
    def take_steps_in_a_transaction_that_fails(self, handle, values):
        judge = deque(self.judge)
        with pytest.raises(ZeroDivisionError), self.stores[handle].transaction() as tx:
            self.steps(tx.list("k"), values)
            self.steps(judge, values)
            assert same(list(tx.list("k")), list(judge))
            raise ZeroDivisionError

    @staticmethod
    def steps(target, values):
        target.extend(values)
        if target:
            target[0] = "first"
            target.appendleft(target.pop())

    @rule(handle=handles)
    def clear(self, handle):
        self.lists[handle].clear()
        self.judge.clear()

    @rule()
    def reopen(self):
        assert self.stores[0].verify().problems == ()
        self.close()
        self.open()

    @rule(handle=handles, wanted=st.slices(9), index=st.integers(-9, 9))
    def look_up(self, handle, wanted, index):
        assert same(self.lists[handle][wanted], list(self.judge)[wanted])
        assert same(outcome(lambda: self.lists[handle][index]), outcome(lambda: self.judge[index]))

    @invariant()
    def both_handles_have_what_the_deque_has(self):
        for store, found in zip(self.stores, self.lists if self.stores else (), strict=True):
            assert same(list(found), list(self.judge))
            assert same(list(reversed(found)), list(reversed(self.judge)))
            assert len(found) == len(self.judge)
            assert list(store.structures()) == ([("k", "list")] if self.judge else [])
            assert len(store) == store.stats().records == 0

    def close(self):
        for store in self.stores:
            store.close()

    def teardown(self):
        self.close()
        shutil.rmtree(self.folder)


TestListMachine = ListMachine.TestCase
TestListMachine.settings = settings(max_examples=settings.default.max_examples // 10, stateful_step_count=25)


# -- one by one ------------------------------------------------------------------------------------


def test_a_list_that_nobody_has_filled_is_empty_and_not_there(space):
    history = space.list("k")
    assert (len(history), list(history), history[:], bool(history)) == (0, [], [], False)
    assert list(space.structures()) == []
    assert history.touch(10) is False
    history.clear()
    for call in (lambda: history[0], lambda: history[-1], history.pop, history.popleft, lambda: history.replace(0, 1)):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(KeyError):
        history.ttl()


def test_it_does_what_a_deque_does(space):
    history = space.list("k", maxlen=3)
    assert (history.key, history.maxlen) == ("k", 3)
    history.append(1)
    history += [2, 3, 4]
    assert list(history) == [2, 3, 4]
    history.appendleft(0)
    assert list(history) == [0, 2, 3]
    history.extendleft("ab")
    assert list(history) == ["b", "a", 0]
    assert (history[0], history[-1], history[1:], history[::-2]) == ("b", 0, ["a", 0], [0, "b"])
    assert ("a" in history, "z" in history, history.index("a"), history.count(0)) == (True, False, 1, 1)
    history[1] = {"x": [1]}
    assert (history.pop(), history.popleft(), history.pop()) == (0, "b", {"x": [1]})
    assert list(space.structures()) == []


def test_more_than_maxlen_at_once_leaves_the_last_ones(space):
    history = space.list("k", maxlen=2)
    history.extend(range(10))
    assert list(history) == [8, 9]
    history.extendleft(range(10))
    assert list(history) == [9, 8]


def test_a_smaller_maxlen_takes_hold_with_the_next_item(space):
    space.list("k").extend(range(100))
    history = space.list("k", maxlen=3)
    assert len(history) == 100
    history.append(100)
    assert list(history) == [98, 99, 100]


def test_a_maxlen_that_makes_no_sense_is_refused(store):
    for maxlen, error in ((0, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="maxlen"):
            store.list("k", maxlen=maxlen)


def test_index_looks_within_its_bounds(store):
    letters = store.list("k")
    letters.extend("abcabc")
    for bounds in ((), (1,), (1, 3), (-3,), (-3, -1), (2, 2), (0, 99), (4, 1)):
        for value in "abcz":
            assert outcome(lambda: letters.index(value, *bounds)) == outcome(
                lambda: list("abcabc").index(value, *bounds)
            )


def test_it_equals_what_has_the_same_items_in_the_same_order(store):
    one, two = store.list("one"), store.namespace("n").list("two")
    one.extend([1, [2], "c"])
    two.extend([1, [2], "c"])
    assert one == two == [1, [2], "c"] == one
    assert one == deque([1, [2], "c"])
    two.append(4)
    assert one != two
    assert two != one
    assert one != [1, [2]]
    assert one != (1, [2], "c")


def test_what_would_move_the_items_behind_is_refused(store):
    history = store.list("k")
    history.extend(range(5))
    with pytest.raises(TypeError, match="popleft"):
        del history[2]
    with pytest.raises(TypeError, match="appendleft"):
        history.insert(2, "x")
    with pytest.raises(TypeError, match="slice"):
        history[1:3] = [1]
    with pytest.raises(TypeError):
        history["a"]
    assert list(history) == list(range(5))


def test_an_index_beyond_all_positions_is_out_of_range(store):
    store.list("k").append(1)
    for index in (1, -2, 2**62, -(2**62), 2**64, -(10**30)):
        with pytest.raises(IndexError):
            store.list("k")[index]


def test_what_can_not_be_stored_is_refused_and_changes_nothing(store):
    history = store.list("k")
    with pytest.raises(UnstorableValueError):
        history.extend([1, object()])
    assert list(store.structures()) == []
    history.append(1)
    with pytest.raises(UnstorableValueError):
        history[0] = object()
    assert list(history) == [1]


def test_what_you_get_is_yours(store):
    given = [[1]]
    store.list("k").append(given)
    spoil(given)
    spoil(store.list("k")[0])
    assert list(store.list("k")) == [[[1]]]


def test_a_list_is_another_thing_than_the_value_of_its_key(store):
    store["k"] = "a value"
    store.list("k").append("an item")
    store.namespace("n").list("k").append("elsewhere")
    assert (dict(store), len(store), list(store.list("k"))) == ({"k": "a value"}, 1, ["an item"])
    store.clear()
    assert (len(store), list(store.list("k")), list(store.namespace("n").list("k"))) == (0, ["an item"], ["elsewhere"])


def test_a_key_that_has_a_list_has_no_set(store):
    store.list("k").append(1)
    members = store.set_of("k")
    for call in (
        lambda: members.add(1),
        lambda: list(members),
        lambda: 1 in members,
        lambda: len(members),
        members.clear,
    ):
        with pytest.raises(StructureTypeError, match="list"):
            call()
    assert list(store.list("k")) == [1]
    store.list("k").clear()
    assert members.add(1) is True


def test_any_key_that_is_not_too_long_can_have_one(space):
    possible = [b"a", "", "a", "x" * 501, "é" * 250, -1, 5, ("a", (1, b"x"))]
    for key in possible:
        space.list(key).append(key)
    assert [list(space.list(key)) for key in possible] == [[key] for key in possible]
    assert list(space.structures()) == [(key, "list") for key in possible]


def test_a_key_that_can_have_none_is_refused(store):
    for key in ("x" * 502, 1.5, True, None, [1], "\ud800"):
        with pytest.raises(InvalidKeyError):
            store.list(key)


def test_structures_are_listed_in_key_order_in_each_namespace(store):
    for key in ("b", 5, "a", ("t", 1), b"x"):
        store.list(key).append(1)
        store.namespace("n").set_of(key).add(1)
    keys = [b"x", "a", "b", 5, ("t", 1)]
    assert list(store.structures()) == [(key, "list") for key in keys]
    assert list(store.namespace("n").structures()) == [(key, "set") for key in keys]
    assert store.namespaces() == ["n"]


def test_an_iteration_sees_one_moment(store):
    store.list("k").extend(range(600))
    items = iter(store.list("k"))
    assert next(items) == 0
    store.list("k").clear()
    assert list(items) == list(range(1, 600))


def test_a_snapshot_keeps_a_list_as_it_was(store):
    store.list("k").extend(range(600))
    with store.snapshot() as view:
        store.list("k").clear()
        store.list("other").append(1)
        frozen = view.list("k")
        assert (list(frozen), frozen[-1], len(frozen)) == (list(range(600)), 599, 600)
        assert (len(view.list("other")), list(view.structures())) == (0, [("k", "list")])
        assert not hasattr(frozen, "append")
    assert list(store.list("k")) == []


def test_a_handle_keeps_its_store_and_travels_with_it(store_path):
    history = kvstore.open(store_path, durability="none").namespace("n").list("k", maxlen=2)
    history.extend([1, 2, 3])
    twin = pickle.loads(pickle.dumps(history))
    twin.append(4)
    assert (list(history), twin.maxlen) == ([3, 4], 2)
    twin._space._store.close()
    history._space._store.close()
    with pytest.raises(kvstore.StoreClosedError):
        list(history)
    with pytest.raises(kvstore.StoreClosedError):
        history.append(5)


def test_a_readonly_store_has_lists_to_read(store_path, store):
    store.list("k").append(1)
    store.close()
    with kvstore.open(store_path, readonly=True) as reader:
        assert list(reader.list("k")) == [1]
        with pytest.raises(kvstore.ReadOnlyError):
            reader.list("k").append(2)
