"""numpy's arrays and scalars in a dump: small ones by their items, in plain words, larger ones in base64.

Nothing here needs numpy: it goes by the stand-ins of `kvstore.array_form`. An item is written as its dtype's Python value
is, and

    float16, float32, bfloat16  with as few digits as tell it from its neighbours
    datetime64                  as numpy writes it, "2024-05-01T12:00", and a timedelta64 as its number; both have "NaT"
    bytes                       as the text that they are, in ASCII
    a structured item           as an array of its fields, in their order

Where that would lose a bit (the payload of a NaN, a byte between fields), or the dtype has no such words (raw void, long
doubles, most of ml_dtypes), the whole is written in base64, in the order in which it is stored.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any, Final

from kvstore import array_types
from kvstore.array_form import StoredArray, StoredScalar
from kvstore.array_types import Leaf, Subarray
from kvstore.dump_moments import moment_of, moment_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kvstore.array_types import ItemType, Struct

MOST_BYTES: Final = 512
"""The items of up to so many bytes are written one by one."""

_INTS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOATS: Final = {2: "e", 4: "f", 8: "d"}
_DIGITS: Final = {"e": 3, "f": 6}
_NAT: Final = -(1 << 63)


# -- fields of a tagged object -------------------------------------------------------------------------------------


def array_fields(value: StoredArray) -> list[tuple[str, object]]:
    """What a dump has of an array."""
    kind = array_types.item_type(value.dtype)
    fields: list[tuple[str, object]] = [("$ndarray", array_types.loads(value.dtype)), ("shape", list(value.shape))]
    if value.order == "F":
        fields.append(("order", "F"))
    count = array_types.product(value.shape)
    items = _in_words(kind, value.data, count)
    if items is None:
        return [*fields, ("base64", _base64(value.data))]
    if value.order == "F":
        items = [items[place] for place in _fortran_places(value.shape)]
    return [*fields, ("items", _nested(items, value.shape))]


def scalar_fields(value: StoredScalar) -> list[tuple[str, object]]:
    """What a dump has of a scalar."""
    tag = ("$scalar", array_types.loads(value.dtype))
    items = _in_words(array_types.item_type(value.dtype), value.data, 1)
    return [tag, ("base64", _base64(value.data)) if items is None else ("item", items[0])]


def read_array(dtype: Any, fields: dict[str, Any]) -> StoredArray:
    """The array of these fields, of which only the form is to be checked. Raises ValueError, LookupError and the like."""
    text = array_types.checked(dtype)
    kind = array_types.item_type(text)
    shape = array_types.shape_of(fields["shape"])
    order = fields.get("order", "C")
    count = array_types.product(shape)
    if "base64" in fields:
        data = a2b_base64(fields["base64"], strict_mode=True)
    else:
        if count > MOST_BYTES:
            raise ValueError("so many items are written in base64")
        items = _flat(fields["items"], shape)
        if order == "F":
            places = _fortran_places(shape)
            items = [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0])]
        data = _packed(kind, items)
    if len(data) != count * kind.itemsize:
        raise ValueError("the items don't fill the shape")
    return StoredArray(text, shape, order, data)


def read_scalar(dtype: Any, fields: dict[str, Any]) -> StoredScalar:
    """The scalar of these fields. Raises as `read_array`."""
    text = array_types.checked(dtype)
    kind = array_types.item_type(text)
    is_raw = "base64" in fields
    data = a2b_base64(fields["base64"], strict_mode=True) if is_raw else _packed(kind, [fields["item"]])
    if len(data) != kind.itemsize:
        raise ValueError("the item is not of the dtype's size")
    return StoredScalar(text, data)


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


# -- shapes --------------------------------------------------------------------------------------------------------


def _nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    """Lists in lists, as the shape says; of no items an empty list, whatever the shape."""
    if not items:
        return []
    for length in shape[:0:-1]:
        items = [items[at : at + length] for at in range(0, len(items), length)]
    return items if shape else items[0]


def _flat(nested: Any, shape: tuple[int, ...]) -> list[Any]:
    if 0 in shape:
        return _list(nested, 0)
    items = [nested]
    for length in shape:
        items = [item for each in items for item in _list(each, length)]
    return items


def _list(value: Any, length: int) -> list[Any]:
    if type(value) is not list or len(value) != length:
        raise ValueError("the items are not as many as the shape says")
    return value


def _fortran_places(shape: tuple[int, ...]) -> list[int]:
    """For each item in C order, its place in Fortran order."""
    steps = [array_types.product(shape[:axis]) for axis in range(len(shape))]
    return [sum(map(int.__mul__, at, steps)) for at in itertools.product(*map(range, shape))]


# -- items ---------------------------------------------------------------------------------------------------------


def _in_words(kind: ItemType, data: bytes, count: int) -> list[Any] | None:
    """The items as what a dump says of them; None where it doesn't say everything, or there are too many."""
    if len(data) > MOST_BYTES or count * _leaves(kind) > MOST_BYTES:
        return None
    try:
        items = _unpacked(kind, data, count)
        return items if _packed(kind, items) == data else None
    except (ValueError, LookupError):
        return None


def _leaves(kind: ItemType) -> int:
    if isinstance(kind, Leaf):
        return 1
    if isinstance(kind, Subarray):
        return array_types.product(kind.shape) * _leaves(kind.base)
    return 1 + sum(map(_leaves, kind.formats))


def _unpacked(kind: ItemType, data: bytes, count: int) -> list[Any]:
    """Raises ValueError and LookupError for what has no words."""
    if isinstance(kind, Leaf):
        return _leaf_words(kind)[0](data, count)
    if isinstance(kind, Subarray):
        inner = array_types.product(kind.shape)
        items = _unpacked(kind.base, data, count * inner)
        return [_nested(items[at * inner : (at + 1) * inner], kind.shape) for at in range(count)]
    columns = [
        _unpacked(part, b"".join(data[at + offset : at + offset + part.itemsize] for at in _starts(kind, count)), count)
        for part, offset in zip(kind.formats, kind.offsets, strict=True)
    ]
    return [[column[at] for column in columns] for at in range(count)]


def _packed(kind: ItemType, items: list[Any]) -> bytes:
    """Raises what `struct` does, ValueError and LookupError for what is none of the kind."""
    if isinstance(kind, Leaf):
        return _leaf_words(kind)[1](items)
    if isinstance(kind, Subarray):
        return _packed(kind.base, [item for each in items for item in _flat(each, kind.shape)])
    rows = [_list(item, len(kind.formats)) for item in items]
    data = bytearray(kind.itemsize * len(rows))
    for place, (part, offset) in enumerate(zip(kind.formats, kind.offsets, strict=True)):
        column = _packed(part, [row[place] for row in rows])
        for at, start in enumerate(_starts(kind, len(rows))):
            data[start + offset : start + offset + part.itemsize] = column[
                at * part.itemsize : (at + 1) * part.itemsize
            ]
    return bytes(data)


def _starts(kind: Struct, count: int) -> Iterable[int]:
    return range(0, kind.itemsize * count, kind.itemsize) if kind.itemsize else itertools.repeat(0, count)


_Words = tuple["Callable[[bytes, int], list[Any]]", "Callable[[list[Any]], bytes]"]


def _leaf_words(leaf: Leaf) -> _Words:
    """How the items of a leaf are read and written. LookupError where they have no words."""
    order = "<" if leaf.order == "|" else leaf.order
    if leaf.long:
        raise LookupError(leaf.text)
    if leaf.text == "bfloat16":
        return _bfloats, _pack_bfloats
    if leaf.kind in "iu":
        letter = _INTS[leaf.itemsize]
        return _numbers(order, letter if leaf.kind == "i" else letter.upper(), int)
    if leaf.kind == "b":
        return _numbers(order, "?", bool)
    if leaf.kind == "f":
        return _floats(order, _FLOATS[leaf.itemsize])
    if leaf.kind == "c":
        return _complexes(*_floats(order, _FLOATS[leaf.itemsize // 2]))
    if leaf.kind == "U":
        return _texts(leaf.itemsize, "utf-32-le" if order == "<" else "utf-32-be")
    if leaf.kind == "S":
        return _texts(leaf.itemsize, "ascii")
    if leaf.kind in "Mm":
        return _times(leaf, order)
    raise LookupError(leaf.text)


def _all_of(kind: type, items: Sequence[Any]) -> Sequence[Any]:
    if not all(type(item) is kind for item in items):
        raise ValueError(f"an item is no {kind.__name__}")
    return items


def _numbers(order: str, letter: str, kind: type) -> _Words:
    return (
        lambda data, count: list(struct.unpack(f"{order}{count}{letter}", data)),
        lambda items: struct.pack(f"{order}{len(items)}{letter}", *_all_of(kind, items)),
    )


def _floats(order: str, letter: str) -> _Words:
    read, write = _numbers(order, letter, float)
    return lambda data, count: [_shortest(item, letter) for item in read(data, count)], write


def _shortest(number: float, letter: str) -> float:
    """The float of the fewest digits that packs as this one does. Every NaN as the one that has a name."""
    if math.isnan(number):
        return math.nan
    if letter == "d" or math.isinf(number):
        return number
    packed = struct.pack(letter, number)
    for digits in range(_DIGITS[letter], 10):
        shorter = float(f"{number:.{digits}g}")
        with contextlib.suppress(OverflowError):  # the largest ones may be rounded up
            if struct.pack(letter, shorter) == packed:
                return shorter
    return number


def _bfloats(data: bytes, count: int) -> list[Any]:
    wide = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, 2 * count, 2))
    return _floats("<", "f")[0](wide, count)


def _pack_bfloats(items: list[Any]) -> bytes:
    wide = _floats("<", "f")[1](items)
    return b"".join(wide[at + 2 : at + 4] for at in range(0, len(wide), 4))


def _complexes(read: Callable[[bytes, int], list[Any]], write: Callable[[list[Any]], bytes]) -> _Words:
    def split(items: list[Any]) -> list[float]:
        return [part for item in _all_of(complex, items) for part in (item.real, item.imag)]

    def joined(data: bytes, count: int) -> list[Any]:
        parts = read(data, 2 * count)
        return [complex(real, imag) for real, imag in zip(parts[::2], parts[1::2], strict=True)]

    return joined, lambda items: write(split(items))


def _texts(size: int, encoding: str) -> _Words:
    def write(items: list[Any]) -> bytes:
        encoded = [item.encode(encoding) for item in _all_of(str, items)]
        if any(len(each) > size for each in encoded):
            raise ValueError("a text is longer than its dtype")
        return b"".join(each.ljust(size, b"\0") for each in encoded)

    def read(data: bytes, count: int) -> list[Any]:
        return [data[at * size : (at + 1) * size].decode(encoding).rstrip("\0") for at in range(count)]

    return read, write


def _times(leaf: Leaf, order: str) -> _Words:
    assert leaf.unit is not None  # noqa: S101  # as it is of one of the two kinds
    count, unit = leaf.unit
    read, write = _numbers(order, "q", int)
    if leaf.kind == "m" or count != 1 or not unit:
        return (
            lambda data, many: ["NaT" if number == _NAT else number for number in read(data, many)],
            lambda items: write([_NAT if item == "NaT" else item for item in items]),
        )
    return (
        lambda data, many: ["NaT" if number == _NAT else moment_text(number, unit) for number in read(data, many)],
        lambda items: write([_NAT if item == "NaT" else moment_of(item, unit) for item in items]),
    )
