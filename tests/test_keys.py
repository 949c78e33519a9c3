"""Keys as bytes: one encoding for each key, in the keys' own order."""

from __future__ import annotations

import enum

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kvstore import keys
from kvstore.errors import InvalidKeyError
from tests import strategies
from tests.payloads import name

ENCODINGS = {
    b"": "01",
    b"a\x00b": "01 61 00 62",
    "": "02",
    "é": "02 c3 a9",
    -1: "04 fe fe",
    -255: "04 fe 00",
    -256: "04 fd fe ff",
    0: "05 00",
    1: "05 01 01",
    256: "05 02 01 00",
    (): "06",
    ("a", 1): "06 02 61 00 05 01 01",
    ("a\x00", b"\x00"): "06 02 61 00 ff 00 01 00 ff 00",
    (("a",), ()): "06 06 02 61 00 00 06 00",
}

NOT_ENCODINGS = {
    "no bytes": "",
    "too many bytes": "01" * 512,
    "an unknown tag": "03 61",
    "the name of a database": "6e 73 3a",
    "a cut-off int": "05 02 01",
    "an int without a size": "05",
    "bytes after an int": "05 01 01 01",
    "a leading zero": "05 02 00 01",
    "a leading zero in a negative int": "04 fd ff fe",
    "a negative zero": "04 ff",
    "invalid UTF-8": "02 ff",
    "UTF-8 of a surrogate": "02 ed a0 80",
    "overlong UTF-8": "02 c0 80",
    "an unfinished str in a tuple": "06 02 61",
    "an unfinished nested tuple": "06 06 02 61 00",
    "a tuple that ends itself": "06 00",
    "an unknown tag in a tuple": "06 07",
    "invalid UTF-8 in a tuple": "06 02 ff 00",
}


class Text(str):
    __slots__ = ()


class Pair(tuple):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


def natural_order(key):
    """The order that the module promises, in terms that Python compares: by type, then by value."""
    rank = (bytes, str, int, tuple).index(type(key))
    return rank, tuple(map(natural_order, key)) if type(key) is tuple else key


def in_range(encoded, bounds):
    return bounds[0] <= encoded < bounds[1]


@pytest.mark.parametrize(("key", "encoding"), ENCODINGS.items())
def test_the_encoding_of_a_key_is_fixed(key, encoding):
    assert keys.encode(key) == bytes.fromhex(encoding)


@given(strategies.keys())
def test_a_key_comes_back_as_it_was(key):
    encoded = keys.encode(key)
    assert strategies.same(keys.decode(encoded), key)
    assert strategies.same(keys.decode(memoryview(encoded)), key)
    assert 1 <= len(encoded) <= keys.MAX_KEY_BYTES


@given(strategies.keys())
def test_a_lookup_finds_what_a_write_wrote(key):
    assert keys.encode_lookup(key) == keys.encode(key)


@given(strategies.keys(), strategies.keys())
def test_bytes_sort_as_their_keys_do(one, other):
    first, second = natural_order(one), natural_order(other)
    assert (keys.encode(one) < keys.encode(other)) == (first < second)
    assert (keys.encode(one) == keys.encode(other)) == (first == second)


@pytest.mark.parametrize(
    "strategy",
    [
        strategies.texts(),
        st.text(st.sampled_from("\0\1\x7f\x80\ud7ff\ue000\uffff\U00010000\U0010ffff")),
        st.binary(),
        strategies.integers(),
        st.tuples(st.binary(max_size=3), strategies.integers()),
        st.lists(st.text("\0ab", max_size=3), max_size=4).map(tuple),
    ],
    ids=["str", "str at the edges", "bytes", "int", "pairs", "tuples of str"],
)
def test_within_a_type_the_order_is_pythons_own(strategy):
    @given(st.lists(strategy))
    def check(some):
        assert sorted(some) == sorted(some, key=keys.encode)

    check()


@given(strategies.keys())
def test_every_key_is_in_the_range_of_all_and_no_database_name_is(key):
    assert in_range(keys.encode(key), keys.ALL)
    assert not in_range(b"ns:name", keys.ALL)
    assert not in_range(b"kvstore:meta", keys.ALL)


@pytest.mark.parametrize("encoded", NOT_ENCODINGS.values(), ids=NOT_ENCODINGS)
def test_what_no_key_encodes_to_is_refused(encoded):
    with pytest.raises(ValueError, match=r"."):
        keys.decode(bytes.fromhex(encoded))


@given(st.data())
def test_bytes_are_refused_or_are_the_encoding_of_their_key(data):
    encoded = bytearray(keys.encode(data.draw(strategies.keys())))
    start = data.draw(st.integers(0, len(encoded)))
    end = data.draw(st.integers(start, min(len(encoded), start + 3)))
    encoded[start:end] = data.draw(st.binary(max_size=3))
    try:
        key = keys.decode(bytes(encoded))
    except ValueError:
        return
    assert keys.encode(key) == encoded


@given(st.binary(max_size=12))
def test_random_bytes_are_refused_or_are_the_encoding_of_their_key(encoded):
    try:
        key = keys.decode(encoded)
    except ValueError:
        return
    assert keys.encode(key) == encoded


@pytest.mark.parametrize(
    "key",
    [None, True, 1.0, 1j, Text("a"), Number.ONE, Pair(), bytearray(b"a"), memoryview(b"a"), frozenset(), []],
    ids=name,
)
def test_a_key_of_another_type_is_refused_wherever_it_is(key):
    for whole in (key, (key,), ("a", (1, key))):
        with pytest.raises(InvalidKeyError, match=type(key).__name__) as caught:
            keys.encode(whole)
        assert isinstance(caught.value, TypeError)


def test_the_longest_key_is_511_bytes_encoded():
    for longest in ("a" * 510, b"a" * 510, ("a" * 508,)):
        assert len(keys.encode(longest)) == 511
        assert keys.decode(keys.encode(longest)) == longest
        longer = (*longest, 0) if type(longest) is tuple else longest * 2
        with pytest.raises(InvalidKeyError, match="at most 511") as caught:
            keys.encode(longer)
        assert isinstance(caught.value, ValueError)
        assert keys.encode_lookup(longer) is None


def test_the_largest_int_has_255_bytes():
    largest = (1 << 255 * 8) - 1
    for number in (largest, -largest):
        assert keys.decode(keys.encode(number)) == number
    for number in (largest + 1, -largest - 1, (largest + 1,)):
        with pytest.raises(InvalidKeyError, match="255 bytes") as caught:
            keys.encode(number)
        assert isinstance(caught.value, ValueError)
        assert keys.encode_lookup(number) is None


@pytest.mark.parametrize("key", ["\ud800", "a\udfff", ("a", "\udc80")], ids=ascii)
def test_a_lone_surrogate_is_refused(key):
    with pytest.raises(InvalidKeyError, match="surrogate") as caught:
        keys.encode(key)
    assert isinstance(caught.value, ValueError)
    assert keys.encode_lookup(key) is None


def test_a_tuple_nested_too_deeply_is_too_long():
    key = ()
    for _ in range(100_000):
        key = (key,)
    with pytest.raises(InvalidKeyError, match="at most 511"):
        keys.encode(key)
    assert keys.encode_lookup(key) is None


def test_a_tuple_as_deep_as_its_length_allows_comes_back():
    key = ()
    for _ in range(255):
        key = (key,)
    assert keys.decode(keys.encode(key)) == key


@pytest.mark.parametrize("key", [None, True, 1.0, Text("a"), Number.ONE, (1, 1.0), frozenset(), print], ids=repr)
def test_looking_up_what_can_be_no_key_finds_nothing(key):
    assert keys.encode_lookup(key) is None


@pytest.mark.parametrize("key", [[], {}, set(), ([],), (1.0, {}), bytearray()], ids=repr)
def test_looking_up_what_is_unhashable_raises_as_dict_does(key):
    with pytest.raises(TypeError) as ours:
        keys.encode_lookup(key)
    with pytest.raises(TypeError) as theirs:
        {}.get(key)
    assert str(ours.value) == str(theirs.value)


def is_prefix(prefix, key):
    if type(prefix) is not type(key):
        return False
    if type(prefix) is tuple:
        return natural_order(key[: len(prefix)]) == natural_order(prefix)
    return key.startswith(prefix)


prefixes = strategies.keys().filter(lambda key: type(key) is not int)


@given(prefixes, strategies.keys())
def test_a_prefix_range_holds_what_starts_with_the_prefix_and_nothing_else(prefix, key):
    bounds = keys.prefix_range(prefix)
    assert in_range(keys.encode(key), bounds) == is_prefix(prefix, key)


@given(prefixes, strategies.keys())
def test_a_prefix_range_holds_the_prefix_and_every_continuation(prefix, more):
    bounds = keys.prefix_range(prefix)
    assert in_range(keys.encode(prefix), bounds)
    if type(prefix) is tuple:
        longer = (*prefix, more)
    else:
        longer = prefix + (more if type(more) is type(prefix) else prefix)
    encoded = keys.encode_lookup(longer)
    assume(encoded is not None)
    assert in_range(encoded, bounds)


def test_a_tuple_prefix_takes_whole_elements():
    bounds = keys.prefix_range(("a",))
    assert in_range(keys.encode(("a", ())), bounds)
    for other in (("a\x00",), ("a\x00b", 1), ("ab",), (b"a",), "a", ("",), ()):
        assert not in_range(keys.encode(other), bounds)


def test_bytes_of_all_ones_have_a_prefix_range_too():
    bounds = keys.prefix_range(b"\xff\xff")
    assert in_range(keys.encode(b"\xff\xff\xff"), bounds)
    assert not in_range(keys.encode(""), bounds)


def test_the_bounds_of_a_prefix_range_are_no_longer_than_keys():
    for size in range(500, 509):
        start, stop = keys.prefix_range(("a" * size,))
        assert start < stop
        assert len(stop) <= keys.MAX_KEY_BYTES


def test_an_int_is_no_prefix():
    with pytest.raises(InvalidKeyError, match="int can't be a prefix") as caught:
        keys.prefix_range(1)
    assert isinstance(caught.value, TypeError)
