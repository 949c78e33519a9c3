"""What every mapping of the library does when it is written, and what its iterators show meanwhile.

`dict` is the judge wherever dict defines the behaviour. Where the library differs, a test here says so: many
writes at once are all done or none, and what is outside the model is refused before anything is written.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import InvalidKeyError, UnstorableValueError
from tests import strategies
from tests.mapping_contract import (
    ABSENT,
    ITEMS,
    NO_KEYS,
    TOO_LARGE,
    UNHASHABLE,
    Text,
    contents,
    order,
    shared_out,
    spoil,
)
from tests.mapping_judge import steps_on, take_steps
from tests.payloads import name
from tests.strategies import same

UNSTORABLE: tuple[Any, ...] = (
    object(),
    Text("sub"),
    [1, {"a": print}],
    {1: {2: object()}},
    range(3),
    memoryview(b"a"),
)


class WritingContract:
    """A mapping that can be written, and read while it is."""

    # -- against dict, step by step -------------------------------------------------------------------

    @shared_out
    @given(steps=st.lists(steps_on(strategies.keys()), max_size=12))
    def test_any_steps_do_what_they_do_to_a_dict(self, make, steps):
        take_steps(make, steps)

    @shared_out
    @given(steps=st.lists(steps_on(st.sampled_from(("a", "b", 1, (1,)))), max_size=25))
    def test_many_steps_on_few_keys_do_what_they_do_to_a_dict(self, make, steps):
        take_steps(make, steps)

    # -- single keys ----------------------------------------------------------------------------------

    def test_it_is_a_mutable_mapping(self, make):
        with make({}) as mapping:
            assert isinstance(mapping, MutableMapping)

    @pytest.mark.parametrize(
        ("before", "after"), [(1, True), (1, 1.0), ("a", b"a"), ([1], (1,)), (0.0, -0.0), ({}, [])]
    )
    def test_overwriting_changes_the_type_too(self, make, before, after):
        with make({"key": before}) as mapping:
            assert same(mapping["key"], before)
            mapping["key"] = after
            assert same(mapping["key"], after)
            assert same(dict(mapping.scan())["key"], after)

    @pytest.mark.parametrize("key", [*ABSENT, *NO_KEYS, *TOO_LARGE], ids=name)
    def test_removing_what_is_not_there_is_as_in_a_dict(self, make, key):
        with make(ITEMS) as mapping:
            for remove in (mapping.__delitem__, mapping.pop):
                with pytest.raises(KeyError) as caught:
                    remove(key)
                assert caught.value.args == (key,)
            assert mapping.pop(key, ITEMS) is ITEMS
            assert mapping.pop(key, None) is None
            assert mapping.delete(key) is False
            assert mapping.delete_many([key]) == 0
            assert contents(mapping) == contents(ITEMS)

    @pytest.mark.parametrize("key", UNHASHABLE, ids=repr)
    def test_an_unhashable_key_to_write_is_a_type_error_as_in_a_dict(self, make, key):
        with make(ITEMS) as mapping:
            for judge in (mapping, dict(ITEMS)):
                with pytest.raises(TypeError):
                    judge[key] = 1
                with pytest.raises(TypeError):
                    del judge[key]
                with pytest.raises(TypeError):
                    judge.pop(key)
                with pytest.raises(TypeError):
                    judge.pop(key, None)
                with pytest.raises(TypeError):
                    judge.setdefault(key, 1)
                with pytest.raises(TypeError):
                    judge.update([(key, 1)])
            with pytest.raises(TypeError):
                mapping.delete(key)
            with pytest.raises(TypeError):
                mapping.delete_many(["a", key])
            assert contents(mapping) == contents(ITEMS)

    @pytest.mark.parametrize("key", [*NO_KEYS, *TOO_LARGE], ids=name)
    def test_a_key_outside_the_model_is_refused_before_anything_is_written(self, make, key):
        kind = ValueError if key in TOO_LARGE else TypeError
        with make(ITEMS) as mapping:
            for write in all_writes(mapping, key, 1):
                with pytest.raises(InvalidKeyError) as caught:
                    write()
                assert isinstance(caught.value, kind)
            assert contents(mapping) == contents(ITEMS)

    @pytest.mark.parametrize("value", UNSTORABLE, ids=name)
    def test_a_value_outside_the_model_is_refused_before_anything_is_written(self, make, value):
        with make(ITEMS) as mapping:
            for key in ("a", "new"):
                for write in all_writes(mapping, key, value):
                    with pytest.raises(UnstorableValueError, match="value"):
                        write()
            assert contents(mapping) == contents(ITEMS)
            for key, expected in ITEMS.items():
                assert same(mapping[key], expected)

    def test_add_writes_only_where_nothing_is(self, make):
        with make({"a": 1}) as mapping:
            assert mapping.add("a", 2) is False
            assert mapping.add("b", 2) is True
            assert mapping.add("b", 3) is False
            assert dict(mapping) == {"a": 1, "b": 2}

    def test_delete_says_whether_something_was_there(self, make):
        with make({"a": None}) as mapping:
            assert mapping.delete("a") is True
            assert mapping.delete("a") is False

    def test_popitem_takes_the_first_item_until_nothing_is_left(self, make):
        with make(ITEMS) as mapping:
            taken = [mapping.popitem() for _ in ITEMS]
            assert taken == [(key, ITEMS[key]) for key in sorted(ITEMS, key=order)]
            assert len(mapping) == 0
            with pytest.raises(KeyError):
                mapping.popitem()

    def test_setdefault_stores_none_where_no_default_is_given(self, make):
        with make({"a": 1}) as mapping:
            assert mapping.setdefault("a") == 1
            assert mapping.setdefault("b") is None
            assert dict(mapping) == {"a": 1, "b": None}

    # -- many keys ------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("args", "named"),
        [
            ((), {}),
            (({},), {}),
            (({"a": 2, "c": 3},), {}),
            (([("a", 2), ("c", 3), ("a", 4)],), {}),
            (([("a", 2), ["c", 3], "de"],), {}),
            ((), {"a": 2, "self": 3, "other": 4}),
            (({"a": 2, 5: 6},), {"a": 3, "b": 4}),
            (({"a": [1]}.items(),), {}),
        ],
        ids=repr,
    )
    def test_update_takes_every_form_that_dict_takes(self, make, args, named):
        expected = {"a": 1, "b": 2}
        expected.update(*args, **named)
        with make({"a": 1, "b": 2}) as mapping:
            mapping.update(*map(iterated, args), **named)
            assert dict(mapping) == expected

    def test_update_takes_whatever_has_keys(self, make):
        class Keyed:
            def keys(self):
                return iter(["x", "y"])

            def __getitem__(self, key):
                return key * 2

        with make({"a": 1}) as mapping:
            mapping.update(Keyed())
            mapping.update(mapping)
            assert dict(mapping) == {"a": 1, "x": "xx", "y": "yy"}

    @pytest.mark.parametrize(
        "args", [(None,), (5,), ([1],), ([("a", 2), ("b",)],), ([("a", 1, 2)],), ({}, {})], ids=repr
    )
    def test_update_refuses_what_dict_refuses_and_changes_nothing(self, make, args):
        with pytest.raises((TypeError, ValueError)) as caught:
            {}.update(*args)
        with make({"a": 1}) as mapping:
            with pytest.raises(caught.type):
                mapping.update(*args)
            assert dict(mapping) == {"a": 1}

    def test_many_writes_are_all_done_or_none(self, make):
        def failing():
            yield "a", 2
            yield "b", 3
            raise ZeroDivisionError

        bad: list[Any] = [[("a", 2), (1.5, 1)], [("a", 2), ("b", object())], {"a": 2, "b": 3, "x" * 600: 4}]
        with make({"a": 1}) as mapping:
            for write in (mapping.update, mapping.set_many):
                with pytest.raises(ZeroDivisionError):
                    write(failing())
                for items in bad:
                    with pytest.raises((InvalidKeyError, UnstorableValueError)):
                        write(items)
                    assert dict(mapping) == {"a": 1}
                    assert mapping["a"] == 1

    def test_of_two_items_with_one_key_the_later_stays(self, make):
        with make({}) as mapping:
            mapping.set_many([("a", 1), ("b", 2), ("a", [3])])
            assert mapping["a"] == [3]
            assert dict(mapping) == {"a": [3], "b": 2}

    @pytest.mark.parametrize("many", [10, 1_000, 1_001, 3_000])
    def test_set_many_stores_however_many(self, make, many):
        with make({5: "old"}) as mapping:
            assert mapping[5] == "old"
            mapping.set_many((number, [number]) for number in range(many))
            assert len(mapping) == many
            assert mapping[5] == [5]
            assert list(mapping.values()) == [[number] for number in range(many)]

    def test_delete_many_counts_what_was_there(self, make):
        with make(ITEMS) as mapping:
            assert mapping.delete_many([]) == 0
            assert mapping.delete_many(iter(["a", "a", "missing", 1.5, b"a", "x" * 600])) == 2
            assert set(mapping) == set(ITEMS) - {"a", b"a"}

    def test_clear_leaves_nothing(self, make):
        with make(ITEMS) as mapping:
            mapping.clear()
            assert dict(mapping) == {}
            assert not mapping
            assert [mapping.get(key) for key in ITEMS] == [None] * len(ITEMS)
            mapping.clear()
            mapping["a"] = 1
            assert dict(mapping) == {"a": 1}

    # -- atomic changes -------------------------------------------------------------------------------

    def test_incr_adds_to_a_number(self, make):
        with make({"int": 5, "float": 0.5, "text": "5", "bool": True}) as mapping:
            assert same(mapping.incr("int"), 6)
            assert same(mapping.incr("int", -10), -4)
            assert same(mapping.incr("float", 0.25), 0.75)
            assert same(mapping.incr("new"), 1)
            assert same(mapping.incr("other", 5, default=10), 15)
            assert same(mapping.incr("int", 2**80), 2**80 - 4)
            for key, delta in (("text", 1), ("bool", 1), ("int", "1"), ("int", True), ("int", None)):
                with pytest.raises(TypeError):
                    mapping.incr(key, delta)
            expected = {"int": 2**80 - 4, "float": 0.75, "text": "5", "bool": True, "new": 1, "other": 15}
            assert contents(mapping) == contents(dict(sorted(expected.items())))
            assert [mapping[key] for key in expected] == list(expected.values())

    @pytest.mark.parametrize("value", [1, "a", None, [1, [2]], {"a": 1}, float("nan"), {1, 2}, (1, "a")], ids=repr)
    def test_compare_and_set_writes_where_the_value_is_the_same(self, make, value):
        with make({"a": value}) as mapping:
            assert mapping.compare_and_set("a", "other", 2) is False
            assert mapping.compare_and_set("missing", value, 2) is False
            assert same(mapping["a"], value)
            assert mapping.compare_and_set("a", value, {"new": [1]}) is True
            assert mapping["a"] == {"new": [1]}
            assert dict(mapping) == {"a": {"new": [1]}}

    @pytest.mark.parametrize(("value", "equal"), [(1, True), (1, 1.0), (0, False), ({1}, frozenset({1}))], ids=repr)
    def test_compare_and_set_tells_types_apart(self, make, value, equal):
        with make({"a": value}) as mapping:
            assert mapping.compare_and_set("a", equal, "new") is False
            assert same(mapping["a"], value)

    def test_modify_replaces_a_value_by_a_function_of_it(self, make):
        with make({"a": [1]}) as mapping:
            assert mapping.modify("a", lambda found: [*found, 2]) == [1, 2]
            assert mapping.modify("b", lambda found: found + 1, default=10) == 11
            with pytest.raises(KeyError):
                mapping.modify("c", lambda found: found)
            with pytest.raises(ZeroDivisionError):
                mapping.modify("a", lambda found: 1 / 0)
            with pytest.raises(UnstorableValueError):
                mapping.modify("a", lambda found: object())
            assert dict(mapping) == {"a": [1, 2], "b": 11}
            assert mapping["a"] == [1, 2]

    # -- what you store and get is yours --------------------------------------------------------------

    @pytest.mark.parametrize(
        "value",
        [
            [1, 2],
            {"a": 1},
            {1, 2},
            bytearray(b"abc"),
            [[1], [2]],
            {"a": [1]},
            ([1], 2),
            {"a": {"b": {"c": []}}},
        ],
        ids=repr,
    )
    def test_changing_what_was_written_changes_nothing(self, make, value):
        writes = {
            "set": lambda mapping, mine: mapping.set("key", mine),
            "set_many": lambda mapping, mine: mapping.set_many({"key": mine}),
            "add": lambda mapping, mine: mapping.add("key", mine),
            "setdefault": lambda mapping, mine: spoil(mapping.setdefault("key", mine)),
            "modify": lambda mapping, mine: spoil(mapping.modify("key", lambda _: mine, default=0)),
        }
        for write in writes.values():
            with make({}) as mapping:
                mine = copy.deepcopy(value)
                write(mapping, mine)
                spoil(mine)
                for _ in range(3):
                    found = mapping["key"]
                    assert same(found, value)
                    spoil(found)
                assert same(dict(mapping.scan())["key"], value)
                spoil(mapping.setdefault("key", 1))
                assert same(mapping["key"], value)
                assert same(mapping.pop("key"), value)

    def test_views_are_live(self, make):
        with make({"a": 1}) as mapping:
            keys, values, items = mapping.keys(), mapping.values(), mapping.items()
            mapping["b"] = 2
            assert list(keys) == ["a", "b"]
            assert list(values) == [1, 2]
            assert list(items) == [("a", 1), ("b", 2)]
            assert len(keys) == len(values) == len(items) == 2
            del mapping["a"]
            assert "a" not in keys
            assert ("b", 2) in items
            assert 1 not in values


class SnapshotIterationContract:
    """A mapping whose iterators each show one moment, whatever is written meanwhile; a dict's raise."""

    @pytest.mark.parametrize("view", ["__iter__", "keys", "values", "items", "scan", "scan_keys", "__reversed__"])
    def test_an_iteration_shows_the_moment_of_its_first_step(self, make, view):
        with make({key: [key] for key in range(10)}) as mapping:
            expected = list(getattr(mapping, view)())
            steps = iter(getattr(mapping, view)())
            seen = [next(steps)]
            mapping.set_many(dict.fromkeys(range(5, 15), "new"))
            del mapping[3], mapping[9]
            seen.append(next(steps))
            mapping.clear()
            assert seen + list(steps) == expected
            assert dict(mapping) == {}

    def test_keys_may_be_removed_while_iterating(self, make):
        with make(ITEMS) as mapping:
            for key in mapping:
                del mapping[key]
            assert len(mapping) == 0

    def test_values_may_be_replaced_while_iterating(self, make):
        with make(dict.fromkeys(range(50), 1)) as mapping:
            for key, value in mapping.items():
                mapping[key] = value + 1
                mapping[key + 1_000] = 0
            assert [mapping[key] for key in range(50)] == [2] * 50
            assert len(mapping) == 100

    def test_iterators_stand_side_by_side(self, make):
        with make({key: key for key in range(20)}) as mapping:
            both = zip(mapping, reversed(mapping), strict=True)
            pairs = [(one, other) for one, other in both if mapping[one] == one]
            assert pairs == [(key, 19 - key) for key in range(20)]

    def test_an_iterator_that_is_left_early_holds_nothing_up(self, make):
        with make({key: key for key in range(20)}) as mapping:
            for key in mapping:
                if key == 3:
                    break
            next(mapping.items().__iter__())
            mapping.clear()
            mapping["a"] = 1
            assert dict(mapping) == {"a": 1}


def iterated(argument: Any) -> Any:
    """A list as a one-way iterator, anything else as it is."""
    return iter(argument) if type(argument) is list else argument


def all_writes(mapping: Any, key: Any, value: Any) -> list[Any]:
    """Every way to store a value under a key, as calls to be made."""
    return [
        lambda: mapping.__setitem__(key, value),
        lambda: mapping.set(key, value),
        lambda: mapping.add(key, value),
        lambda: mapping.setdefault(key, value),
        lambda: mapping.update({key: value}),
        lambda: mapping.update([("a", 2), (key, value)]),
        lambda: mapping.set_many({"a": 2, key: value}),
        lambda: mapping.set_many([("new", 1), (key, value)]),
        lambda: mapping.compare_and_set(key, 1, value),
        lambda: mapping.modify(key, lambda _: value, default=0),
    ]
