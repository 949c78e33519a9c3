"""Dumps, and what is in them."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import strategies as st

from kvstore import codec, dump
from kvstore.errors import DumpFormatError
from tests import strategies

FAR = 4_102_444_800_000
"""An expiry in 2100."""
UTC = dt.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
SUMMER = dt.timezone(dt.timedelta(hours=2), "CEST")
BLINK = dt.timezone(dt.timedelta(microseconds=-1))
NOON = dt.datetime(2024, 5, 1, 12)
NUMBER = "12345678-1234-5678-1234-567812345678"

FORMS = [
    (None, "null"),
    (True, "true"),
    (0, "0"),
    (2**64 - 1, "18446744073709551615"),
    (-(2**63), "-9223372036854775808"),
    (2**64, '{"$int":"0x10000000000000000"}'),
    (-(2**63) - 1, '{"$int":"-0x8000000000000001"}'),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (5e-324, "5e-324"),
    (float("nan"), '{"$float":"nan"}'),
    (-float("nan"), '{"$float":"fff8000000000000"}'),
    (float("inf"), '{"$float":"inf"}'),
    (-float("inf"), '{"$float":"-inf"}'),
    ("é😀", '"é😀"'),
    ('"\\\n', '"\\"\\\\\\n"'),
    (
        "\x00\x7f\x9b\u202e\u2028\ufeff\U000e0041",
        '"\\u0000\\u007f\\u009b\\u202e\\u2028\\ufeff\\udb40\\udc41"',
    ),
    (b"", '{"$bytes":""}'),
    (b"\x00\x01", '{"$bytes":"AAE="}'),
    (bytearray(b"\x00\x01"), '{"$bytearray":"AAE="}'),
    ([], "[]"),
    ([1, [2.5, "a"]], '[1,[2.5,"a"]]'),
    ([1.5, float("inf")], '[1.5,{"$float":"inf"}]'),
    ([2**64], '[{"$int":"0x10000000000000000"}]'),
    ((), '{"$tuple":[]}'),
    ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
    ({}, "{}"),
    ({"b": 1, "a": None}, '{"b":1,"a":null}'),
    ({"b": [(1,)], "a": 2}, '{"b":[{"$tuple":[1]}],"a":2}'),
    ({"a$": 1}, '{"a$":1}'),
    ({"a": 1, "$b": 2}, '{"$dict":[["a",1],["$b",2]]}'),
    ({1: "x", "1": (2,)}, '{"$dict":[[1,"x"],["1",{"$tuple":[2]}]]}'),
    ({3, "a", 1.5}, '{"$set":["a",1.5,3]}'),
    (frozenset({(1, 2), frozenset()}), '{"$frozenset":[{"$frozenset":[]},{"$tuple":[1,2]}]}'),
    (complex(1, -0.0), '{"$complex":[1.0,-0.0]}'),
    (complex(float("inf"), 0), '{"$complex":[{"$float":"inf"},0.0]}'),
    (Decimal("1.10"), '{"$decimal":"1.10"}'),
    (Decimal("-0E+7"), '{"$decimal":"-0E+7"}'),
    (Decimal("sNaN12"), '{"$decimal":"sNaN12"}'),
    (Fraction(-1, 3), '{"$fraction":[-1,3]}'),
    (Fraction(2**64), '{"$fraction":[{"$int":"0x10000000000000000"},1]}'),
    (NOON, '{"$datetime":"2024-05-01T12:00:00"}'),
    (NOON.replace(tzinfo=UTC, microsecond=1), '{"$datetime":"2024-05-01T12:00:00.000001+00:00"}'),
    (
        NOON.replace(tzinfo=dt.timezone(dt.timedelta(0), "UTC")),
        '{"$datetime":"2024-05-01T12:00:00+00:00","name":"UTC"}',
    ),
    (NOON.replace(tzinfo=BLINK), '{"$datetime":"2024-05-01T12:00:00-00:00:00.000001"}'),
    (dt.time(12, tzinfo=BLINK), '{"$time":"12:00:00-00:00:00.000001"}'),
    (NOON.replace(tzinfo=SUMMER), '{"$datetime":"2024-05-01T12:00:00+02:00","name":"CEST"}'),
    (
        NOON.replace(tzinfo=BERLIN, fold=1),
        '{"$datetime":"2024-05-01T12:00:00","zone":"Europe/Berlin","fold":1}',
    ),
    (dt.time(12, fold=1), '{"$time":"12:00:00","fold":1}'),
    (dt.time(12, tzinfo=BERLIN), '{"$time":"12:00:00","zone":"Europe/Berlin"}'),
    (dt.date(1, 2, 3), '{"$date":"0001-02-03"}'),
    (dt.timedelta(microseconds=-1), '{"$timedelta":[-1,86399,999999]}'),
    (uuid.UUID(NUMBER), f'{{"$uuid":"{NUMBER}"}}'),
    (uuid.UUID(NUMBER, is_safe=uuid.SafeUUID.safe), f'{{"$uuid":"{NUMBER}","is_safe":"safe"}}'),
    (codec.Opaque("point", (1, 2)), '{"$type":"point","value":{"$tuple":[1,2]}}'),
]


def values():
    """Storable values, with what a dump takes special care of: ``$`` in keys, and registered types."""
    return st.recursive(
        strategies.values(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["$", "$bytes", "a"]), inner, max_size=3),
            st.builds(codec.Opaque, strategies.texts().filter(bool), inner),
        ),
        max_leaves=4,
    )


def dumped(store, **options):
    stream = io.BytesIO()
    dump.write(store, stream, **options)
    return stream.getvalue()


def sealed(*lines, header='{"format":"kvstore dump","version":1,"namespaces":[""]}'):
    """A dump of these lines, whatever they are, with the trailer that they must have."""
    text = "".join(f"{line}\n" for line in (header, *lines)).encode()
    return text + b'{"count":%d,"sha256":"%s"}\n' % (len(lines), hashlib.sha256(text).hexdigest().encode())


def line(key, value="1", *, ns='""', expires="null"):
    return f'{{"ns":{ns},"key":{key},"value":{value},"expires":{expires}}}'


def refused(store, data, **options):
    """The error that the dump is refused with."""
    with pytest.raises(DumpFormatError) as caught:
        dump.load(store, io.BytesIO(data), merge=True, **options)
    assert str(caught.value).startswith(f"line {caught.value.line}: ")
    return caught.value
