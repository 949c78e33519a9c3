"""What would not come back exactly is refused, and the refusal says where it is."""

from __future__ import annotations

import enum
import io
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest

from kvstore import codec
from kvstore.codec import Opaque
from kvstore.errors import UnstorableValueError
from tests.payloads import name


class Text(str):
    __slots__ = ()


class Zone(tzinfo):
    """A time zone that is neither of the two kinds that can be named."""

    def utcoffset(self, moment):
        return timedelta(0)

    def tzname(self, moment):
        return "X"

    def dst(self, moment):
        return None


class Day(date):
    pass


class Colour(enum.IntEnum):
    RED = 1


Pair = namedtuple("Pair", "a b")  # the plain kind is what people have

UNSTORABLE = [
    object(),
    object,
    print,
    ...,
    NotImplemented,
    Text("a"),
    Colour.RED,
    Pair(1, 2),
    OrderedDict(a=1),
    defaultdict(int),
    Counter("a"),
    deque([1]),
    range(3),
    {}.keys(),
    iter([]),
    memoryview(b"a"),
    msgpack.ExtType(1, b"a"),
    msgpack.Timestamp(1),
    Day(2024, 1, 1),
    datetime(2024, 1, 1, tzinfo=Zone()),
    time(1, tzinfo=Zone()),
    UTC,
    ZoneInfo("UTC"),
    "\ud800",
    "a\udfff" * 20_000,
    UUID(int=True),
]


def deep(depth, around=lambda inner: [inner]):
    value = around(1)
    for _ in range(depth - 1):
        value = around(value)
    return value


@pytest.mark.parametrize("value", UNSTORABLE, ids=name)
def test_what_would_not_come_back_is_refused_wherever_it_is(value):
    for whole, place in [
        (value, "value"),
        ([value], "value[0]"),
        ({"a": [1, 2, 3, value]}, 'value["a"][3]'),
        ([{b"k": {1: (0, value)}}], "value[0][b'k'][1][1]"),
        ([[2**64, value], datetime(2024, 1, 1)], "value[0][1]"),
        (Opaque("name", [value]), "value.stored_form[0]"),
    ]:
        with pytest.raises(UnstorableValueError) as caught:
            codec.encode(whole)
        assert str(caught.value).startswith(f"{place} ")
        assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("member", [Text("a"), Colour.RED, Pair(1, 2), (1, Text("a")), "\ud800", print], ids=name)
def test_a_member_or_key_that_would_not_come_back_is_refused(member):
    for whole, place in [({member}, "value.member("), ({1: {member: 2}}, "value[1].key(")]:
        with pytest.raises(UnstorableValueError) as caught:
            codec.encode(whole)
        assert str(caught.value).startswith(place)


def test_a_refusal_names_the_type_and_a_way_out():
    with pytest.raises(UnstorableValueError, match=r"collections\.OrderedDict.*convert.*kvstore\.register"):
        codec.encode([OrderedDict()])
    with pytest.raises(UnstorableValueError, match=r"surrogate at character 2.*os\.fsencode"):
        codec.encode(["ab\ud800"])
    with pytest.raises(UnstorableValueError, match=r"\.Zone; use datetime\.timezone or zoneinfo\.ZoneInfo"):
        codec.encode([time(1, tzinfo=Zone())])


def test_a_zone_of_other_rules_or_another_identity_is_refused():
    borrowed = ZoneInfo.from_file(io.BytesIO(TZIF), key="Europe/Berlin")
    nameless = ZoneInfo.from_file(io.BytesIO(TZIF))
    for zone in (borrowed, nameless, ZoneInfo.no_cache("Europe/Berlin")):
        with pytest.raises(UnstorableValueError, match=r"make it with ZoneInfo\(key\)"):
            codec.encode(datetime(2024, 1, 1, tzinfo=zone))


# A whole time zone file: UTC under the name of MAD.
TZIF = b"TZif" + bytes(32) + b"\0\0\0\1" + b"\0\0\0\4" + bytes(6) + b"MAD\0"

AROUND = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner,),
    "dict": lambda inner: {"a": inner},
    "dict of other keys": lambda inner: {1: inner},
    "opaque": lambda inner: Opaque("name", inner),
    "frozenset": lambda inner: frozenset({inner}),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_containers_nest_up_to_the_limit_and_no_further(around):
    value = deep(codec.MAX_DEPTH, around)
    payload, extended = codec.encode(value)
    assert codec.encode(codec.decode_opaque(payload, extended)) == (payload, extended)
    for deeper in (around(value), deep(3_000, around)):
        with pytest.raises(UnstorableValueError, match=f"more than {codec.MAX_DEPTH} deep"):
            codec.encode(deeper)


def test_a_value_that_contains_itself_is_refused():
    ring = [1]
    ring.append(ring)
    twice = []
    twice += [twice, twice]
    table = {}
    table["a"] = (table,)
    for value in (ring, twice, table, [datetime(2024, 1, 1), ring]):
        with pytest.raises(UnstorableValueError, match="contains itself"):
            codec.encode(value)


def test_the_same_object_in_two_places_is_stored_twice():
    shared = [1]
    value = codec.decode(*codec.encode([shared, {"a": shared}]))
    assert value == [[1], {"a": [1]}]
    assert value[0] is not value[1]["a"]


def test_where_the_stack_ends_a_value_is_refused_and_no_recursion_error_escapes():
    plain, extended = deep(200), deep(200, lambda inner: (inner,))

    def fall(value):
        try:
            return fall(value)
        except RecursionError:
            codec.encode(value)
            raise AssertionError("this near to its end the stack has no room") from None

    for value in (plain, extended):
        with pytest.raises(UnstorableValueError, match="nested too deeply"):
            fall(value)
