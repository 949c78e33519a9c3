"""dtypes as JSON: what one says, without numpy. Nothing here trusts its input.

A dtype is numpy's own short name (``"<f4"``, ``"|S5"``, ``"<M8[ns]"``), the name of a type of ml_dtypes (``"bfloat16"``),
or ``{"names":[...],"formats":[...],"offsets":[...],"itemsize":n}`` as ``numpy.dtype`` takes it, with "aligned": true
where it is laid out as a C struct; a format may be ``[dtype, shape]``. Long doubles differ between machines, so theirs
say what they are: ``"<f16 x87"``, ``"<f16 binary128"``.
"""

from __future__ import annotations

import json
import re

from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

ML_DTYPES: Final = {
    "bfloat16": 2,
    "float8_e3m4": 1,
    "float8_e4m3": 1,
    "float8_e4m3b11fnuz": 1,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float6_e2m3fn": 1,
    "float6_e3m2fn": 1,
    "float4_e2m1fn": 1,
    "int2": 1,
    "int4": 1,
    "uint2": 1,
    "uint4": 1,
}
"""The types of ml_dtypes that are stored, and the bytes of an item, low byte first."""

_MAX_NESTING = 32
_MANY_BRACKETS = 500
_MAX_DIMENSIONS = 64
_MAX_SIZE = (1 << 31) - 1
_MAX_LENGTH = (1 << 63) - 1
_MAX_REMEMBERED = 256

_LEAF = re.compile(
    r"([<>|])([biufcSUVMm])(0|[1-9][0-9]{0,9})"
    r"(?:\[([1-9][0-9]{0,9})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?( x87| binary128)?"
)
_SIZES = {"b": {1}, "i": {1, 2, 4, 8}, "u": {1, 2, 4, 8}, "f": {2, 4, 8}, "c": {8, 16}, "M": {8}, "m": {8}}
_LONG_SIZES = {"x87": {"f": {12, 16}, "c": {24, 32}}, "binary128": {"f": {16}, "c": {32}}}
_LONG_LONGS = {"<q": "i", ">q": "i", "<Q": "u", ">Q": "u"}
"""A second type of 64 bits, which some libraries make their arrays of: to numpy it isn't ``<i8``."""


class Leaf(Frozen):
    """A dtype without parts.

    kind    numpy's letter for it, or "ml" for a type of ml_dtypes
    order   "<", ">", or "|" where bytes have no order
    unit    of datetime64 and timedelta64: how many of what, (1, "") for the generic one
    long    of long doubles: what they are
    """

    text: str
    kind: str
    order: str
    itemsize: int
    unit: tuple[int, str] | None = None
    long: str = ""


class Subarray(Frozen):
    """A fixed number of items in the place of one."""

    base: ItemType
    shape: tuple[int, ...]
    itemsize: int


class Struct(Frozen):
    """A structured dtype."""

    names: tuple[str, ...]
    formats: tuple[ItemType, ...]
    offsets: tuple[int, ...]
    itemsize: int


ItemType: TypeAlias = "Leaf | Subarray | Struct"

_known: dict[str, ItemType] = {}


def item_type(text: str) -> ItemType:
    """What a dtype in JSON says. Raises ValueError for what no writer makes."""
    kind = _known.get(text)
    if kind is None:
        parsed = loads(text)
        kind = _parse(parsed, _MAX_NESTING)
        if type(kind) is Subarray or dumps(parsed) != text:
            raise ValueError("a dtype is not in the form that it is written in")
        remember(_known, text, kind)
    return kind


def checked(parsed: Any) -> str:
    """The JSON of a dtype that has been read from elsewhere. Raises ValueError for what no writer makes."""
    _parse(parsed, _MAX_NESTING)
    text = dumps(parsed)
    item_type(text)
    return text


def remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep what may recur. What a store's arrays look like does; what is in a hostile file mustn't stay."""
    if len(known) >= _MAX_REMEMBERED:
        known.clear()
    known[key] = value


def loads(text: str) -> Any:
    """The JSON of a header. Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        if text.count("[") + text.count("{") < _MANY_BRACKETS:
            raise  # it is the caller who has left no room
        raise ValueError("a header is nested too deeply") from None


def dumps(parsed: object) -> str:
    """JSON in the one form in which it stands in a header: ASCII, without spaces."""
    return json.dumps(parsed, separators=(",", ":"))


def shape_of(lengths: Any) -> tuple[int, ...]:
    """A shape, of a list that may be anything. Raises ValueError."""
    if type(lengths) is not list or len(lengths) > _MAX_DIMENSIONS:
        raise ValueError("a shape is malformed")
    if not all(type(length) is int and 0 <= length <= _MAX_LENGTH for length in lengths):
        raise ValueError("a shape has a length that no array has")
    return tuple(lengths)


def product(lengths: tuple[int, ...]) -> int:
    """The number of items in an array of a shape."""
    total = 1
    for length in lengths:
        total *= length
    return total


def is_loose(kind: ItemType) -> bool:
    """Whether an item has bytes that belong to none of its values, or to two of them."""
    if isinstance(kind, Subarray):
        return is_loose(kind.base)
    if isinstance(kind, Leaf):
        return kind.long == "x87"
    end = 0
    for offset, part in sorted(zip(kind.offsets, kind.formats, strict=True), key=lambda field: field[0]):
        if is_loose(part) or offset != end:
            return True
        end += part.itemsize
    return end != kind.itemsize


def has_text(kind: ItemType) -> bool:
    """Whether an item has a str in it."""
    if isinstance(kind, Subarray):
        return has_text(kind.base)
    return kind.kind == "U" if isinstance(kind, Leaf) else any(map(has_text, kind.formats))


def _parse(parsed: Any, room: int) -> ItemType:
    if type(parsed) is str:
        return _leaf(parsed)
    if not room:
        raise ValueError("a dtype is nested too deeply")
    if type(parsed) is list and len(parsed) == 2:
        kind, shape = _parse(parsed[0], room - 1), shape_of(parsed[1])
        if type(kind) is Subarray or not shape:
            raise ValueError("a subarray is malformed")
        return Subarray(kind, shape, _sized(product(shape) * kind.itemsize))
    if type(parsed) is dict:
        return _struct(parsed, room)
    raise ValueError("a dtype is malformed")


def _struct(parsed: dict[str, Any], room: int) -> Struct:
    fields = ("names", "formats", "offsets", "itemsize", "aligned")[: 5 if len(parsed) == 5 else 4]
    if (*parsed,) != fields or parsed.get("aligned", True) is not True:
        raise ValueError("a structured dtype is malformed")
    names, formats, offsets, itemsize = (parsed[name] for name in fields[:4])
    if not all(type(part) is list for part in (names, formats, offsets)) or not all(
        type(name) is str for name in names
    ):
        raise ValueError("the fields of a structured dtype are malformed")
    if not len(set(names)) == len(names) == len(formats) == len(offsets):
        raise ValueError("the fields of a structured dtype don't match their names")
    kinds = tuple(_parse(each, room - 1) for each in formats)
    for kind, offset in zip(kinds, offsets, strict=True):
        if _sized(offset) + kind.itemsize > _sized(itemsize):
            raise ValueError("a field reaches beyond its structure")
    return Struct(tuple(names), kinds, tuple(offsets), _sized(itemsize))


def _leaf(text: str) -> Leaf:
    if (size := ML_DTYPES.get(text)) is not None:
        return Leaf(text, "ml", "<" if size > 1 else "|", size)
    if (letter := _LONG_LONGS.get(text)) is not None:
        return Leaf(text, letter, text[0], 8)
    match = _LEAF.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.40} is not a dtype that is stored")
    order, kind, number, count, unit, suffix = match.groups()
    size = int(number) * 4 if kind == "U" else int(number)
    sizes = _LONG_SIZES[suffix[1:]].get(kind, ()) if suffix else _SIZES.get(kind, (size,))
    has_no_order = kind in "SV" or (size == 1 and kind != "U")
    bad_unit = count == "1" or (unit and kind not in "Mm")
    if _sized(size) not in sizes or (order == "|") != has_no_order or bad_unit:
        raise ValueError(f"{text!r:.40} is not a dtype that is stored")
    duration = (_sized(int(count or 1)), unit or "") if kind in "Mm" else None
    return Leaf(text, kind, order, size, duration, (suffix or "")[1:])


def _sized(size: Any) -> int:
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError("a dtype has a size or an offset that none has")
    return size
