"""What every mapping of the library does when it is read, written once for all of them.

`dict` is the judge wherever dict defines the behaviour. Where the library differs, a test here says so: keys
come in their own order, and ``1`` and ``True`` are not one key.

A mapping takes the contract by a fixture ``make``: ``with make(items) as mapping`` gives one that has exactly
these items.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.errors import InvalidKeyError
from tests import strategies
from tests.payloads import name
from tests.strategies import fingerprint, same

ITEMS: dict[Any, Any] = {
    "a": 1,
    "b": [1, 2, [3]],
    "ba": {"x": 1.5},
    "": None,
    "é": "text",
    b"a": b"bytes",
    b"": (1, "two"),
    0: 0,
    -1: -1,
    2**70: 2**70,
    (): [],
    ("a",): {1, 2},
    ("a", 1): True,
    ("a", ("b", b"c")): bytearray(b"mine"),
    "list": [1, 2],
    "dict": {"one": 1},
}


class Text(str):
    """A str that is no key and no value: it would come back as another type."""

    __slots__ = ()


ABSENT = ("missing", b"missing", 77, ("missing",), -(2**80))
NO_KEYS = (
    1.5,
    0.0,
    None,
    True,
    False,
    1j,
    frozenset(),
    Text("sub"),
    ("a", 1.0),
    (True,),
    ...,
    object(),
    print,
)
TOO_LARGE = ("x" * 600, b"x" * 511, 1 << 2040, ("x" * 300, "y" * 300), "\ud800", ("\ud800",))
UNHASHABLE: tuple[Any, ...] = ([], {}, set(), bytearray(b"a"), ("a", []), ({},))


def order(key: Any) -> tuple[int, Any]:
    """The place of a key: by type first, within a type as Python sorts."""
    rank = (bytes, str, int, tuple).index(type(key))
    return (rank, tuple(map(order, key)) if type(key) is tuple else key)


def contents(mapping: Mapping[Any, Any]) -> dict[Any, object]:
    """A mapping's items, in forms that ``==`` compares to the last bit."""
    return {key: fingerprint(value) for key, value in mapping.items()}


def spoil(value: Any) -> None:
    """Change whatever can be changed in a value."""
    if type(value) in {list, tuple, dict}:
        for inner in value.values() if type(value) is dict else value:
            spoil(inner)
    with suppress(AttributeError):
        value.clear()


def small_values() -> st.SearchStrategy[Any]:
    """Values that are quick to make, of every kind that the memory tier treats in its own way."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
    return st.one_of(
        scalars,
        st.lists(scalars, max_size=3),
        st.dictionaries(st.text(max_size=3), scalars, max_size=3),
        st.lists(st.lists(scalars, max_size=2), max_size=2),
        strategies.values(),
    )


shared_out = settings(max_examples=settings.default.max_examples // 8)
"""Every mapping takes its share of the examples that the profile asks for."""

some_items = st.dictionaries(strategies.keys(), small_values(), max_size=8)


class ReadingContract:
    """A mapping that can be read."""

    # -- single keys ----------------------------------------------------------------------------------

    def test_every_item_comes_back_exactly(self, make):
        with make(ITEMS) as mapping:
            for key, value in ITEMS.items():
                for _ in range(3):
                    assert same(mapping[key], value)
                    assert same(mapping.get(key), value)
                    assert same(mapping.get(key, "default"), value)
                    assert key in mapping

    @shared_out
    @given(items=some_items)
    def test_any_items_come_back_exactly(self, make, items):
        with make(items) as mapping:
            for key, value in items.items():
                assert same(mapping[key], value)
                assert same(mapping[key], value)
            assert contents(mapping) == contents(items)
            assert len(mapping) == len(items)

    @pytest.mark.parametrize("key", [*ABSENT, *NO_KEYS, *TOO_LARGE], ids=name)
    def test_a_key_that_is_not_there_is_absent_as_in_a_dict(self, make, key):
        with make(ITEMS) as mapping:
            for _ in range(2):
                assert key not in mapping
                assert mapping.get(key) is None
                assert mapping.get(key, ITEMS) is ITEMS
                with pytest.raises(KeyError) as caught:
                    mapping[key]
                assert caught.value.args == (key,)
                assert caught.value.args[0] is key
                assert mapping.get_many([key]) == {}
                assert key not in mapping.keys()  # noqa: SIM118
                assert (key, 1) not in mapping.items()

    @pytest.mark.parametrize("key", UNHASHABLE, ids=repr)
    def test_an_unhashable_key_is_a_type_error_as_in_a_dict(self, make, key):
        with make(ITEMS) as mapping:
            for judge in (mapping, ITEMS):
                with pytest.raises(TypeError, match="unhashable"):
                    judge[key]
                with pytest.raises(TypeError, match="unhashable"):
                    judge.get(key)
                with pytest.raises(TypeError, match="unhashable"):
                    key in judge  # noqa: B015
                with pytest.raises(TypeError, match="unhashable"):
                    key in judge.keys()  # noqa: B015, SIM118
                with pytest.raises(TypeError, match="unhashable"):
                    (key, 1) in judge.items()  # noqa: B015
            with pytest.raises(TypeError, match="unhashable"):
                mapping.get_many(["a", key])

    def test_keys_that_python_holds_equal_are_still_different_keys(self, make):
        with make({1: "int", 0: "zero"}) as mapping:
            for key in (True, 1.0, False, 0.0, 1 + 0j):
                mapping.get(1)
                assert key not in mapping
                assert mapping.get(key) is None
        with make({"1": "str", 1: "int", b"1": "bytes", (1,): "tuple", ("1",): "tuple of str"}) as mapping:
            assert [mapping[key] for key in ("1", 1, b"1", (1,), ("1",))] == [
                "str",
                "int",
                "bytes",
                "tuple",
                "tuple of str",
            ]

    # -- many keys ------------------------------------------------------------------------------------

    def test_get_many_gives_what_is_there_in_the_order_asked_for(self, make):
        with make(ITEMS) as mapping:
            asked = ["dict", "missing", 0, b"a", ("a", 1), 1.5, "dict", "x" * 600]
            for keys in (asked, tuple(asked), iter(asked), (key for key in asked), dict.fromkeys(asked)):
                found = mapping.get_many(keys)
                assert type(found) is dict
                assert list(found.items()) == [(key, ITEMS[key]) for key in ("dict", 0, b"a", ("a", 1))]
            assert mapping.get_many([]) == {}
            assert contents(mapping.get_many(ITEMS)) == contents(ITEMS)

    @pytest.mark.parametrize("asked", [[True, 1], [1, True], [1.0, 1], [1, 1.0, True]])
    def test_get_many_finds_a_key_beside_one_that_python_holds_equal(self, make, asked):
        with make({1: "int"}) as mapping:
            assert mapping.get_many(asked) == {1: "int"}
            assert [type(key) for key in mapping.get_many(asked)] == [int]

    # -- order ----------------------------------------------------------------------------------------

    @shared_out
    @given(keys=st.sets(strategies.keys(), max_size=20))
    def test_keys_come_in_their_natural_order(self, make, keys):
        expected = sorted(keys, key=order)
        with make(dict.fromkeys(keys, 0)) as mapping:
            assert list(mapping) == expected
            assert list(mapping.keys()) == expected
            assert list(reversed(mapping)) == expected[::-1]
            assert [key for key, _ in mapping.items()] == expected
            assert list(map(type, mapping)) == list(map(type, expected))

    def test_items_values_and_keys_agree(self, make):
        with make(ITEMS) as mapping:
            pairs = list(mapping.items())
            assert pairs == [(key, ITEMS[key]) for key in sorted(ITEMS, key=order)]
            assert list(mapping.values()) == [value for _, value in pairs]
            assert list(mapping.scan()) == pairs
            assert list(mapping.scan_keys()) == [key for key, _ in pairs]
            assert list(reversed(mapping.items())) == pairs[::-1]
            assert list(reversed(mapping.values())) == [value for _, value in pairs[::-1]]
            assert list(reversed(mapping.keys())) == [key for key, _ in pairs[::-1]]

    @shared_out
    @given(data=st.data())
    def test_a_scan_gives_the_range_asked_for(self, make, data):
        short = st.text(st.sampled_from("ab\0é"), max_size=3)
        flat = short | st.binary(max_size=2) | st.integers(-300, 300)
        some_keys = st.one_of(flat, st.lists(flat, max_size=2).map(tuple))
        keys = data.draw(st.sets(some_keys, max_size=15))
        prefix = data.draw(st.none() | short | st.binary(max_size=2) | st.lists(flat, max_size=2).map(tuple))
        start, stop = data.draw(st.none() | some_keys), data.draw(st.none() | some_keys)
        reverse, limit = data.draw(st.booleans()), data.draw(st.none() | st.integers(0, 5))

        def wanted(key):
            if prefix is not None and (type(key) is not type(prefix) or key[: len(prefix)] != prefix):
                return False
            return (start is None or order(start) <= order(key)) and (stop is None or order(key) < order(stop))

        expected = sorted(filter(wanted, keys), key=order, reverse=reverse)[:limit]
        options = {"prefix": prefix, "start": start, "stop": stop, "reverse": reverse, "limit": limit}
        with make({key: [repr(key)] for key in keys}) as mapping:
            assert list(mapping.scan_keys(**options)) == expected
            assert list(mapping.scan(**options)) == [(key, [repr(key)]) for key in expected]

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"limit": -1}, ValueError),
            ({"start": 1.5}, InvalidKeyError),
            ({"stop": True}, InvalidKeyError),
            ({"start": []}, InvalidKeyError),
            ({"prefix": 1}, InvalidKeyError),
            ({"prefix": "\ud800"}, InvalidKeyError),
        ],
    )
    def test_a_scan_without_sense_is_refused_at_the_call(self, make, options, error):
        with make(ITEMS) as mapping:
            with pytest.raises(error):
                mapping.scan(**options)
            with pytest.raises(error):
                mapping.scan_keys(**options)
            with pytest.raises(TypeError):
                mapping.scan("a")

    # -- as a whole -----------------------------------------------------------------------------------

    def test_it_is_a_mapping_that_every_use_of_mappings_takes(self, make):
        with make({"a": 1, "b": 2}) as mapping:
            assert isinstance(mapping, Mapping)
            assert dict(mapping) == {**mapping} == {"a": 1, "b": 2}
            assert "{a}{b}".format(**mapping) == "12"
            assert {"c": 3} | dict(mapping) == {"c": 3, "a": 1, "b": 2}
            assert "{b}".format_map(mapping) == "2"
            match mapping:
                case {"a": found, **rest}:
                    assert (found, rest) == (1, {"b": 2})
                case _:
                    pytest.fail("a mapping pattern does not match")

    @pytest.mark.parametrize("items", [{}, {"a": None}, ITEMS], ids=["empty", "one", "many"])
    def test_length_and_truth_are_those_of_a_dict(self, make, items):
        with make(items) as mapping:
            assert len(mapping) == len(items)
            assert bool(mapping) == bool(items)
            assert len(mapping.keys()) == len(mapping.values()) == len(mapping.items()) == len(items)

    def test_it_equals_a_dict_with_the_same_items_and_nothing_else(self, make):
        with make(ITEMS) as mapping:
            assert mapping == ITEMS
            assert ITEMS == mapping  # noqa: SIM300  # the other way round
            assert mapping == dict(reversed(ITEMS.items()))
            for other in ({}, ITEMS | {"a": 2}, ITEMS | {"more": 1}, list(ITEMS.items()), None, 1, "text"):
                assert mapping != other
                assert other != mapping
            with pytest.raises(TypeError, match="unhashable"):
                hash(mapping)

    # -- views ----------------------------------------------------------------------------------------

    def test_views_are_those_of_a_mapping(self, make):
        with make(ITEMS) as mapping:
            assert isinstance(mapping.keys(), KeysView)
            assert isinstance(mapping.values(), ValuesView)
            assert isinstance(mapping.items(), ItemsView)

    def test_the_keys_are_a_set(self, make):
        others: list[Any] = [set(), {"a", b"a", "more"}, set(ITEMS), {"more", 1.5, None}, frozenset({"a"})]
        with make(ITEMS) as mapping:
            keys = mapping.keys()
            for other in [*others, ITEMS.keys(), {"a": 1}.keys()]:
                assert keys & other == ITEMS.keys() & other
                assert keys | other == ITEMS.keys() | other
                assert keys - other == ITEMS.keys() - other
                assert keys ^ other == ITEMS.keys() ^ other
                assert other & keys == other & ITEMS.keys()
                assert other - keys == other - ITEMS.keys()
                assert keys.isdisjoint(other) == ITEMS.keys().isdisjoint(other)
                for compare in ("__eq__", "__le__", "__lt__", "__ge__", "__gt__", "__ne__"):
                    assert getattr(keys, compare)(other) == getattr(ITEMS.keys(), compare)(other)
            assert keys == ITEMS.keys()
            assert ITEMS.keys() == keys

    def test_the_items_are_a_set_of_pairs(self, make):
        flat = {"a": 1, "b": "two", 3: None}
        with make(flat) as mapping:
            items = mapping.items()
            for other in ({("a", 1), ("b", 2)}, set(flat.items()), flat.items(), set()):
                assert items & other == flat.items() & other
                assert items | other == flat.items() | other
                assert items - other == flat.items() - other
                assert items ^ other == flat.items() ^ other
                assert items.isdisjoint(other) == flat.items().isdisjoint(other)
                assert (items == other) == (flat.items() == other)
                assert (items <= other) == (flat.items() <= other)
        with make(ITEMS) as mapping:
            assert mapping.items() == ITEMS.items()

    def test_views_contain_what_a_dicts_views_contain(self, make):
        with make(ITEMS) as mapping:
            for item in [*ITEMS.items(), ("a", 2), ("a", 1.0), ("missing", 1), ("b", [1, 2])]:
                assert (item in mapping.items()) == (item in ITEMS.items())
            for no_item in ("a", ("a",), ("a", 1, 2), ["a", 1], None, 5):
                assert no_item not in mapping.items()
                assert no_item not in ITEMS.items()
            for value in [*ITEMS.values(), 1.0, "nowhere", [], [1], object()]:
                assert (value in mapping.values()) == (value in ITEMS.values())

    # -- what you get is yours ------------------------------------------------------------------------

    def test_changing_what_was_read_changes_nothing(self, make):
        with make(ITEMS) as mapping:
            for _ in range(3):
                for key in ITEMS:
                    spoil(mapping[key])
                    spoil(mapping.get(key))
                    spoil(mapping.get_many([key])[key])
                for value in mapping.values():
                    spoil(value)
                for pair in mapping.items():
                    spoil(pair)
                for value in mapping.get_many(ITEMS).values():
                    spoil(value)
                assert contents(mapping) == contents(ITEMS)
                assert contents(mapping.get_many(ITEMS)) == contents(ITEMS)

    def test_two_reads_share_nothing_that_can_change(self, make):
        with make(ITEMS) as mapping:
            for key, value in ITEMS.items():
                first, second = mapping[key], mapping[key]
                if type(value) in {list, dict, set, bytearray}:
                    assert first is not second
                    if type(value) is list and value and type(value[-1]) is list:
                        assert first[-1] is not second[-1]
