"""What a store takes, as hypothesis strategies, and what it means to give back the same."""

from __future__ import annotations

import struct
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from kvstore.codec import Opaque
from kvstore.errors import InvalidKeyError
from kvstore.keys import encode

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC")


def same(one: object, other: object) -> bool:
    """Equal, of the same types all the way down and to the last bit; stricter than ``==``, and reflexive."""
    return fingerprint(one) == fingerprint(other)


def fingerprint(value: Any) -> object:
    """What makes a value this one and no other, in tuples that ``==`` compares rightly."""
    kind = type(value)
    match value:
        case None | bool() | int() | str() | bytes():
            detail: object = value
        case bytearray():
            detail = bytes(value)
        case float():
            detail = struct.pack(">d", value)
        case complex():
            detail = struct.pack(">dd", value.real, value.imag)
        case list() | tuple():
            detail = tuple(map(fingerprint, value))
        case set() | frozenset():
            detail = frozenset(Counter(map(fingerprint, value)).items())
        case dict():
            detail = tuple((fingerprint(key), fingerprint(item)) for key, item in value.items())
        case datetime() | time():
            detail = (value.replace(tzinfo=None).isoformat(), value.fold, fingerprint(value.tzinfo))
        case ZoneInfo():
            detail = value.key
        case date() | timedelta() | timezone():
            detail = repr(value)
        case Decimal():
            detail = value.as_tuple()
        case Fraction():
            detail = (value.numerator, value.denominator)
        case UUID():
            detail = (value.int, value.is_safe)
        case Opaque():
            detail = (value.name, fingerprint(value.value))
        case _:
            raise TypeError(f"{kind} is not of the value model")
    return kind, detail


def texts() -> st.SearchStrategy[str]:
    """Str that UTF-8 has bytes for."""
    return st.text(st.characters(codec="utf-8"))


def integers() -> st.SearchStrategy[int]:
    """Ints of all sizes, with the edges of 64 bits and of whole bytes."""
    edges = st.builds(
        lambda bits, sign, off: sign * (1 << bits) + off,
        st.integers(0, 300),
        st.sampled_from((1, -1)),
        st.integers(-1, 1),
    )
    return st.integers() | edges


def keys() -> st.SearchStrategy[Any]:
    """Keys of all four types, nested tuples included, with many zero and 0xFF bytes."""
    awkward = st.text(st.sampled_from("\0\1a\x7f\x80\xffé\U0010ffff"))
    raw = st.binary(max_size=40) | st.lists(st.sampled_from((0, 1, 0x10, 0xFF)), max_size=9).map(bytes)
    flat = texts() | awkward | raw | integers()
    nested = st.recursive(flat, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
    return nested.filter(_fits)


def _fits(key: Any) -> bool:
    try:
        return bool(encode(key))
    except InvalidKeyError:
        return False


def timezones() -> st.SearchStrategy[Any]:
    """None, offsets with and without a name, and IANA zones."""
    offsets = st.timedeltas(timedelta(hours=-24, microseconds=1), timedelta(hours=24, microseconds=-1))
    return st.one_of(
        st.none(),
        st.sampled_from(ZONES).map(ZoneInfo),
        st.builds(timezone, offsets),
        st.builds(timezone, offsets, texts()),
        st.just(UTC),
    )


def plain_scalars() -> st.SearchStrategy[Any]:
    """Scalars that msgpack itself has, NaNs with their bits included."""
    floats = st.floats() | st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack(">d", raw)[0])
    small = st.integers(-(2**63), 2**64 - 1)
    return st.none() | st.booleans() | small | floats | texts() | st.binary()


def scalars() -> st.SearchStrategy[Any]:
    """Immutable scalars of every type."""
    folds = st.integers(0, 1)
    decimals = st.decimals() | st.builds(
        lambda digits, exponent, sign: Decimal((sign, digits, exponent)),
        st.lists(st.integers(0, 9), max_size=30).map(tuple),
        st.integers(-400, 400) | st.sampled_from("nNF"),
        st.integers(0, 1),
    )
    return st.one_of(
        plain_scalars(),
        integers(),
        st.complex_numbers(),
        decimals,
        st.fractions(),
        st.builds(lambda n, safe: UUID(int=n.int, is_safe=safe), st.uuids(), st.sampled_from(SafeUUID)),
        st.dates(),
        st.timedeltas(),
        st.builds(lambda t, zone, fold: t.replace(tzinfo=zone, fold=fold), st.times(), timezones(), folds),
        st.builds(lambda t, zone, fold: t.replace(tzinfo=zone, fold=fold), st.datetimes(), timezones(), folds),
    )


def hashables() -> st.SearchStrategy[Any]:
    """Members of sets and keys of dicts: scalars, and tuples and frozensets of what equals itself."""
    lone = scalars().filter(_is_hashable)
    equal = lone.filter(_equals_itself)
    return lone | st.recursive(equal, _immutable_containers, max_leaves=5)


def values() -> st.SearchStrategy[Any]:
    """Storable values of every type, nested."""
    return st.recursive(scalars() | st.binary().map(bytearray), _containers, max_leaves=15)


def plain_values() -> st.SearchStrategy[Any]:
    """Values that msgpack itself gives back as they are."""
    names = texts() | st.binary()
    return st.recursive(plain_scalars(), lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=15)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:  # a signaling NaN
        return False
    return True


def _equals_itself(value: object) -> bool:
    return value == value  # noqa: PLR0124  # a NaN doesn't


def _immutable_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.lists(hashables(), max_size=4)
    return st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(texts(), inner, max_size=4),
        st.dictionaries(hashables(), inner, max_size=4),
        members.map(set),
        members.map(frozenset),
    )
