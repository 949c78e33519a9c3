"""The JSON text of a dump back into values and keys; `kvstore.dump_json` says how it is written.

Strict: duplicate fields, unknown tags and fields, numbers that no float holds, and a tagged scalar in any
other text than its own are refused with a ValueError. No code is run by the text.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import struct
import uuid
import zoneinfo
from binascii import a2b_base64
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from kvstore import dump_json, keys
from kvstore.codec import MAX_DEPTH
from kvstore.dump_arrays import read_array, read_scalar
from kvstore.errors import InvalidKeyValueError
from kvstore.registry import Opaque

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NESTING: Final = 4 * MAX_DEPTH
"""How deep brackets are followed. A storable value needs at most 3 for a container, and has 2 around it."""

# A string is skipped whole; a quotation mark alone is one that doesn't end. N and I begin what Python's json
# takes for numbers and JSON does not. Possessive, so that no text makes it try again.
_STRUCTURE: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}NI]', re.DOTALL)


def loads(text: str) -> object:
    """The value that `dump_json.dumps` wrote, with stand-ins for registered types and what is numpy's.

    ValueError says what is wrong.
    """
    try:
        try:
            return _DECODER.decode(text)
        except RecursionError:
            return _decode_deep(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos + 1}") from None


def load_key(text: str) -> keys.Key:
    """The key that `dump_json.dump_key` wrote. ValueError or InvalidKeyError says what is wrong."""
    return as_key(loads(text))


def as_key(parsed: object) -> keys.Key:
    """The key that `loads` read as a value. InvalidKeyError for what can't be one."""
    if type(parsed) is tuple:
        raise _tagged_tuple()
    key = cast("keys.Key", _as_tuple(parsed) if type(parsed) is list else parsed)
    keys.encode(key)
    return key


def _tagged_tuple() -> InvalidKeyValueError:
    return InvalidKeyValueError("a tuple in a key is a plain array, without a tag")


def _as_tuple(array: list[object]) -> tuple[object, ...]:
    """The array and those in it as tuples. Without recursion: a key may be nested deeply."""
    outer = []
    items, elements = iter(array), list[object]()
    while True:
        for item in items:
            if type(item) is list:
                outer.append((items, elements))
                items, elements = iter(item), []
                break
            if type(item) is tuple:
                raise _tagged_tuple()
            elements.append(item)
        else:
            if not outer:
                return tuple(elements)
            done = tuple(elements)
            items, elements = outer.pop()
            elements.append(done)


def _decode_deep(text: str) -> object:
    """What the decoder makes of a text that is nested too deeply for it: bracket by bracket, from the inside.

    A NaN, the one token that a text can't contain, stands for what was read out of it.
    """
    texts: list[list[str]] = [[]]
    inner: list[list[object]] = [[]]
    at = 0
    for match in _STRUCTURE.finditer(text):
        token = match[0]
        if token in ("[", "{"):
            if len(texts) > MAX_NESTING:
                raise ValueError(f"nested more than {MAX_NESTING} deep")
            texts[-1] += (text[at : match.start()], "NaN")
            texts.append([])
            inner.append([])
            at = match.start()
        elif token in ("]", "}"):
            if len(texts) == 1:
                raise ValueError(f"{token} closes nothing at character {match.end()}")
            texts[-1].append(text[at : match.end()])
            value = _decoder(inner.pop()).decode("".join(texts.pop()))
            inner[-1].append(value)
            at = match.end()
        elif token == '"':  # noqa: S105  # a token of JSON
            raise ValueError(f"Unterminated string starting at character {match.end()}")
        elif token in ("N", "I"):
            _refuse_constant(text[match.start() :][:8])
    texts[-1].append(text[at:])
    if len(texts) > 1:
        raise ValueError(f"{len(texts) - 1} brackets are not closed")
    return _decoder(inner[0]).decode("".join(texts[0]))


def _decoder(inner: list[object]) -> json.JSONDecoder:
    """A decoder that takes the values for its constants from the list."""
    values = iter(inner)
    return json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=lambda _: next(values))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is more than a float holds")
    return number


def _object(pairs: list[tuple[str, Any]]) -> object:
    """What a JSON object with these fields stands for; the values in it have been read already."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the field {dump_json.dumps(twice)} occurs twice")
    if not any(name.startswith("$") for name in fields):
        return fields
    tag, payload = pairs[0]
    if not tag.startswith("$"):
        raise ValueError("a tag, which is a field that begins with $, comes first")
    if (container := _CONTAINERS.get(tag)) is not None:
        names, read = container
        if (*fields,) != names:
            raise ValueError(f"{tag} has these fields: {', '.join(names)}")
        return read(*fields.values())
    if (scalar := _SCALARS.get(tag)) is None:
        raise ValueError(f"{dump_json.dumps(tag)} is not a tag of this version of the format")
    try:
        value = scalar(payload, fields)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise ValueError(f"{tag} can't be read: {error}") from None
    # One check for all of them: what a constructor is lenient about would be written otherwise.
    if dump_json.tagged(pairs) != dump_json.scalar(value):
        raise ValueError(f"{tag} is not in the form that it is written in")
    return value


_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?$")


# Values that contain no others: by tag, (payload, fields) -> value. They raise what their constructors raise.


def _moment(kind: type[dt.datetime | dt.time]) -> Callable[[Any, dict[str, Any]], object]:
    def read(payload: Any, fields: dict[str, Any]) -> object:
        zone: dt.tzinfo | None = None
        if "zone" in fields:
            zone = zoneinfo.ZoneInfo(fields["zone"])
        elif match := _OFFSET.search(payload):
            payload = payload[: match.start()]
            zone = dt.timezone(_offset(match), *([fields["name"]] if "name" in fields else []))
        return kind.fromisoformat(payload).replace(tzinfo=zone, fold=fields.get("fold", 0))

    return read


def _offset(match: re.Match[str]) -> dt.timedelta:
    """Read here, as fromisoformat takes an offset of less than a second for none."""
    sign, *parts = match.groups("0")
    hours, minutes, seconds, microseconds = map(int, parts)
    offset = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    return -offset if sign == "-" else offset


def _float(payload: Any) -> float:
    if payload in {"nan", "inf", "-inf"}:
        return float(payload)
    (number,) = struct.unpack(">d", bytes.fromhex(payload))
    return cast("float", number)


def _complex(payload: Any) -> complex:
    real, imag = payload
    if type(real) is not float or type(imag) is not float:
        raise TypeError("its parts are not floats")
    return complex(real, imag)


def _fraction(payload: Any) -> Fraction:
    numerator, denominator = payload
    return Fraction(numerator, denominator)


def _uuid(payload: Any, fields: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(payload, is_safe=uuid.SafeUUID[fields.get("is_safe", "unknown")])


_SCALARS: Final[dict[str, Callable[[Any, dict[str, Any]], object]]] = {
    "$int": lambda payload, _: int(payload, 16),
    "$float": lambda payload, _: _float(payload),
    "$complex": lambda payload, _: _complex(payload),
    "$decimal": lambda payload, _: Decimal(payload),
    "$fraction": lambda payload, _: _fraction(payload),
    "$bytes": lambda payload, _: a2b_base64(payload, strict_mode=True),
    "$bytearray": lambda payload, _: bytearray(a2b_base64(payload, strict_mode=True)),
    "$datetime": _moment(dt.datetime),
    "$time": _moment(dt.time),
    "$date": lambda payload, _: dt.date.fromisoformat(payload),
    "$timedelta": lambda payload, _: dt.timedelta(*payload),
    "$uuid": _uuid,
    "$ndarray": read_array,
    "$scalar": read_scalar,
}


# Values that contain others: by tag, the fields and what to make of them. They raise ValueError.


def _array(tag: str, payload: object) -> list[Any]:
    if type(payload) is not list:
        raise ValueError(f"{tag} has an array")
    return payload


def _members(tag: str, payload: object) -> frozenset[object]:
    members = _array(tag, payload)
    try:
        distinct = frozenset(members)
    except TypeError as error:
        raise ValueError(f"{tag} has an element that no set can have: {error}") from None
    if len(distinct) != len(members):
        raise ValueError(f"{tag} has an element twice")
    return distinct


def _dict(payload: object) -> dict[object, object]:
    pairs = _array("$dict", payload)
    if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
        raise ValueError("$dict has an array of pairs")
    try:
        items = dict(pairs)
    except TypeError as error:
        raise ValueError(f"$dict has a key that no dict can have: {error}") from None
    if len(items) != len(pairs):
        raise ValueError("$dict has a key twice")
    return items


def _registered(name: object, value: object) -> Opaque:
    if type(name) is not str:
        raise ValueError("$type is the name of a registered type")
    return Opaque(name, value)


_CONTAINERS: Final[dict[str, tuple[tuple[str, ...], Callable[..., object]]]] = {
    "$tuple": (("$tuple",), lambda payload: tuple(_array("$tuple", payload))),
    "$set": (("$set",), lambda payload: set(_members("$set", payload))),
    "$frozenset": (("$frozenset",), lambda payload: _members("$frozenset", payload)),
    "$dict": (("$dict",), _dict),
    "$type": (("$type", "value"), _registered),
}

_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant)
