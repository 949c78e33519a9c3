"""A value or a key as JSON text, with nothing lost; `kvstore.dump_parse` reads it back.

What JSON says exactly is plain JSON: None, bool, str, finite floats, ints of up to 64 bits, lists, and dicts
whose keys are all str and don't begin with ``$``. Everything else is an object whose first field is a tag:

    {"$int": "0x1f…"}                an int beyond 64 bits; in decimal it would meet Python's limit on digits
    {"$float": "nan"}                also "inf", "-inf", and the 16 hex digits of any other NaN
    {"$complex": [1.0, -0.0]}
    {"$decimal": "1.10"}
    {"$fraction": [1, 3]}
    {"$bytes": "AAE="}               base64
    {"$bytearray": "AAE="}
    {"$tuple": [1, 2]}
    {"$set": [1, 2]}                 sorted by their members' text
    {"$frozenset": [1, 2]}
    {"$dict": [["$", 1], [2, 3]]}    a dict with a key that is no str, or that begins with "$"
    {"$datetime": "2024-05-01T12:00:00+02:00"}
    {"$time": "12:00:00"}
    {"$date": "2024-05-01"}
    {"$timedelta": [1, 2, 3]}        days, seconds, microseconds
    {"$uuid": "12345678-1234-5678-1234-567812345678"}
    {"$type": "point", "value": 1}   a registered type: the name it is registered under, and its stored form
    {"$ndarray": "<f4", "shape": [2, 2], "items": [[1.0, 2.0], [3.0, 4.0]]}
    {"$ndarray": "<f4", "shape": [512], "base64": "AAAA…"}
    {"$scalar": "<f4", "item": 1.0}

``$datetime`` and ``$time`` may have a "zone" (the key of a ZoneInfo; then without an offset) or a "name"
(where a timezone was given one), and "fold": 1. ``$uuid`` may have "is_safe": "safe" or "unsafe".
``$ndarray`` may have "order": "F"; `kvstore.array_types` tells of dtypes, `kvstore.dump_arrays` of items. A key is
written as a value is, except that a tuple is a plain array: no key has a list in it.

Equal values of equal types give equal text, under any hash seed and any Python version.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
import struct
import uuid
import zoneinfo
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from kvstore import codec
from kvstore.array_form import StoredArray, StoredScalar
from kvstore.dump_arrays import array_fields, scalar_fields
from kvstore.errors import UnstorableValueError
from kvstore.extensions_numpy import is_numpy
from kvstore.registry import Opaque

if TYPE_CHECKING:
    from kvstore import keys

# What no terminal, editor or log should meet raw: controls (C0, DEL, C1), soft hyphen, zero-width and
# directional marks, line separators, byte order mark, annotations, tags, surrogates. A list of our own, since
# a dump must not change with the Unicode tables of the Python that writes it. None of them is printable to
# str.isprintable.
_UNSAFE: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_FLAT: Final = frozenset({type(None), bool, int, float, str})
_CANONICAL_NAN: Final = "7ff8000000000000"
_BIG_INT: Final = re.compile(r"-?0x[1-9a-f][0-9a-f]*")
_EXACT: Final = decimal.Context(capitals=1)

_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def escape(text: str) -> str:
    r"""The text with every character that doesn't show as what it is turned into ``\uXXXX``.

    Of JSON it leaves the meaning as it is. Safe to print on a terminal.
    """
    return text if text.isprintable() else _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    point = ord(match[0])
    if point < 0x10000:
        return f"\\u{point:04x}"
    point -= 0x10000
    return f"\\u{0xD800 | point >> 10:04x}\\u{0xDC00 | point & 0x3FF:04x}"


class _Text(str):
    """Finished JSON among the values that are still to be written."""

    __slots__ = ()


class _Set:
    """A set that is being written: the texts of its members so far, and the pieces of what it stands in."""

    __slots__ = ("members", "outer", "tag")

    def __init__(self, tag: str, outer: list[str]) -> None:
        self.tag = tag
        self.outer = outer
        self.members: list[str] = []


class _EndOfMember(NamedTuple):
    set: _Set


class _EndOfSet(NamedTuple):
    set: _Set


def dumps(value: object) -> str:
    """JSON text of a storable value, on one line and `escape`d. UnstorableValueError for any other value."""
    return escape(_json(value))


def dump_key(key: keys.Key) -> str:
    """JSON text of a key, on one line and `escape`d."""
    return escape(_json(key, {tuple: lambda elements: _joined("[", elements, "]")}))


def _json(value: object, containers: _Writers | None = None) -> str:
    if containers is None:
        containers = _CONTAINERS
    pieces: list[str] = []
    # A stack of our own: a value may be nested more deeply than Python's leaves room for.
    todo = [value]
    while todo:
        item = todo.pop()
        kind = type(item)
        if kind is _Text:
            pieces.append(cast("str", item))
        elif (scalar := _SCALARS.get(kind)) is not None:
            pieces.append(scalar(item))
        elif (container := containers.get(kind)) is not None:
            text = container(item)
            if isinstance(text, str):
                pieces.append(text)
            else:
                todo.extend(reversed(text))
        elif (tag := _SETS.get(kind)) is not None:
            current = _Set(tag, pieces)
            pieces = []
            todo.append(_EndOfSet(current))
            for member in cast("Iterable[object]", item):
                todo += (_EndOfMember(current), member)
        elif isinstance(item, _EndOfMember):
            item.set.members.append("".join(pieces))
            pieces.clear()
        elif isinstance(item, _EndOfSet):
            pieces = item.set.outer
            pieces.append(f'{{"{item.set.tag}":[{",".join(sorted(item.set.members))}]}}')
        elif (stand_in := _stand_in(item)) is not None:
            todo.append(stand_in)
        else:
            raise UnstorableValueError(f"a value of type {kind.__qualname__} has no form in a dump")
    return "".join(pieces)


def _stand_in(value: object) -> object | None:
    """For an array or scalar of numpy's, which only who has numpy gives. Raises UnstorableValueError."""
    return codec.decode_opaque(*codec.encode(value)) if is_numpy(type(value)) else None


def scalar(value: object) -> str:
    """JSON text of a value that contains no other, not escaped."""
    return _SCALARS[type(value)](value)


def tagged(fields: Iterable[tuple[str, object]]) -> str:
    """JSON text of an object with these fields, tags and all, not escaped."""
    return "{" + ",".join(f"{_encode(name)}:{_json(value)}" for name, value in fields) + "}"


def _int(value: int) -> str:
    return str(value) if -(2**63) <= value < 2**64 else f'{{"$int":"{value:#x}"}}'


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    if math.isinf(value):
        return f'{{"$float":"{value}"}}'
    bits = struct.pack(">d", value).hex()
    return f'{{"$float":"{"nan" if bits == _CANONICAL_NAN else bits}"}}'


def _base64(data: bytes | bytearray) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _moment(tag: str, value: dt.datetime | dt.time) -> str:
    fields: dict[str, object] = {}
    zone = value.tzinfo
    if isinstance(zone, zoneinfo.ZoneInfo):
        fields["zone"] = zone.key
        value = value.replace(tzinfo=None)
    elif isinstance(zone, dt.timezone):
        # What pickle would make it of: the only way to tell a given name from a made one.
        name = zone.__getinitargs__()[1:]  # type: ignore[attr-defined]
        if name:
            fields["name"] = name[0]
    if value.fold:
        fields["fold"] = 1
    return _encode({tag: value.isoformat(), **fields})


def _uuid(value: uuid.UUID) -> str:
    if value.is_safe is uuid.SafeUUID.unknown:
        return f'{{"$uuid":"{value}"}}'
    return f'{{"$uuid":"{value}","is_safe":"{value.is_safe.name}"}}'


_SCALARS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: _int,
    float: _float,
    str: _encode,
    bytes: lambda value: f'{{"$bytes":"{_base64(value)}"}}',
    bytearray: lambda value: f'{{"$bytearray":"{_base64(value)}"}}',
    complex: lambda value: f'{{"$complex":[{_float(value.real)},{_float(value.imag)}]}}',
    # Not str(): that follows the context of the moment.
    decimal.Decimal: lambda value: f'{{"$decimal":"{_EXACT.to_sci_string(value)}"}}',
    Fraction: lambda value: f'{{"$fraction":[{_int(value.numerator)},{_int(value.denominator)}]}}',
    dt.datetime: lambda value: _moment("$datetime", value),
    dt.time: lambda value: _moment("$time", value),
    dt.date: lambda value: f'{{"$date":"{value.isoformat()}"}}',
    dt.timedelta: lambda value: f'{{"$timedelta":[{value.days},{value.seconds},{value.microseconds}]}}',
    uuid.UUID: _uuid,
    StoredArray: lambda value: tagged(array_fields(value)),
    StoredScalar: lambda value: tagged(scalar_fields(value)),
}


def _is_flat(values: Iterable[object]) -> bool:
    """Whether json itself writes all of these exactly."""
    kinds = set(map(type, values))
    if not kinds <= _FLAT:
        return False
    if kinds == {float}:
        return all(map(math.isfinite, cast("Iterable[float]", values)))
    return kinds.isdisjoint((int, float)) or all(
        -(2**63) <= value < 2**64 if type(value) is int else type(value) is not float or math.isfinite(value)
        for value in values
    )


def _joined(opening: str, values: Iterable[object], closing: str) -> list[object]:
    """What is to be written, in this order: the values with commas between and brackets around them."""
    parts: list[object] = [_Text(opening)]
    for value in values:
        parts += (value, _Text(","))
    if len(parts) > 1:
        parts.pop()
    parts.append(_Text(closing))
    return parts


def _list(values: list[object]) -> str | list[object]:
    return _encode(values) if _is_flat(values) else _joined("[", values, "]")


def _dict(items: dict[object, object]) -> str | list[object]:
    if not set(map(type, items)) <= {str} or any(cast("str", key).startswith("$") for key in items):
        return _joined('{"$dict":[', map(list, items.items()), "]}")
    if _is_flat(items.values()):
        return _encode(items)
    parts: list[object] = []
    for key, value in items.items():
        parts += (_Text(f"{',' if parts else '{'}{_encode(key)}:"), value)
    parts.append(_Text("}"))
    return parts


_Writers: TypeAlias = dict[type, Callable[[Any], "str | list[object]"]]

_CONTAINERS: Final[_Writers] = {
    list: _list,
    dict: _dict,
    tuple: lambda values: _joined('{"$tuple":[', values, "]}"),
    Opaque: lambda value: [_Text(f'{{"$type":{_encode(value.name)},"value":'), value.value, _Text("}")],
}
_SETS: Final[dict[type, str]] = {set: "$set", frozenset: "$frozenset"}
