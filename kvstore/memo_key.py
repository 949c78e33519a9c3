"""Arguments as canonical bytes: the same for equal arguments in every process, different for all others.

Every encoding delimits itself, so that none is the beginning of another and a row of them reads in one way only:

    N T F        None, True, False
    i            an int: length, two's complement, big-endian
    r            a float: its 8 bytes, big-endian
    u b          str in UTF-8, bytes: length, content
    v            another scalar of the value model: length, what `kvstore.codec` makes of it
    l t          list, tuple: count, items
    d            dict: count, then keys and values in the order of the keys' encodings
    s z          set, frozenset: count, members in the order of their encodings
    a g          numpy array, numpy scalar: dtype, shape, digest of the content in C order
    o            a value of a registered type: its name, its stored form
    k            a value with a ``__memo_key__`` method: its class, what that returns
    c            a class: its module and qualified name

A dict's order, a set's order, and an array's layout in memory don't matter; every type does, so ``1``, ``1.0``, ``True`` and
``"1"`` are four different arguments. Digests are BLAKE2b: arguments come from outside, and two that somebody has
made to collide would be given each other's results.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from struct import Struct

from kvstore import codec
from kvstore.errors import UnstorableValueError
from kvstore.plain import MAX_DEPTH
from kvstore.refusal import Refused, full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

DIGEST_BYTES: Final = 16
HOOK: Final = "__memo_key__"

_size = Struct(">Q").pack
_double = Struct(">d").pack
_LONG_DOUBLES: Final = "gG"
_LAYOUTS: Final = ("ndarray", "memmap")


def digest(encoded: bytes | memoryview) -> bytes:
    """16 bytes that stand for an encoding, or a row of them."""
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()


def encode(value: Any, room: int = MAX_DEPTH) -> bytes:
    """The canonical encoding of one argument. Raises ``Refused``, with its place, for what has none."""
    kind = type(value)
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value)
    if not room:
        raise Refused(f"is nested more than {MAX_DEPTH} deep, or contains itself")
    try:
        return _encode_composite(kind, value, room - 1)
    except Refused as refusal:
        refusal.trail.append(value)
        raise


def encode_rows(array: Any) -> list[bytes]:
    """The encodings of an array's rows: of each, the same as alone."""
    if array.ndim == 1 or array.dtype.names is not None or not array.nbytes or array.dtype.char in _LONG_DOUBLES:
        return [encode(item) for item in array]
    _check(array.dtype)
    head = b"a" + _described(array.dtype, array.shape[1:])
    content = _content(array)
    size = len(content) // len(array)
    return [head + digest(content[at : at + size]) for at in range(0, len(content), size)]


def is_array(value: object) -> bool:
    """Whether it is a numpy array as such: a subclass may mean something else by its content."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) in [getattr(numpy, name) for name in _LAYOUTS]


def _write_int(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) >> 3, "big", signed=True)
    return b"i" + _size(len(data)) + data


def _write_str(value: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        refusal = Refused(f"has a lone surrogate at character {error.start}; for a file name, use os.fsencode")
        refusal.trail.append(value)
        raise refusal from None
    return b"u" + _size(len(data)) + data


_WRITERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _write_int,
    float: lambda value: b"r" + _double(value),
    str: _write_str,
    bytes: lambda value: b"b" + _size(len(value)) + value,
}


def _encode_composite(kind: type, value: Any, room: int) -> bytes:
    if kind is list or kind is tuple:
        return _row(b"l" if kind is list else b"t", [encode(item, room) for item in value])
    if kind is dict:
        pairs = sorted((encode(key, room), encode(item, room)) for key, item in value.items())
        return _row(b"d", [key + item for key, item in pairs])
    if kind is set or kind is frozenset:
        return _row(b"s" if kind is set else b"z", sorted(encode(member, room) for member in value))
    if is_array(value):
        return b"a" + _array(value, room)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return b"g" + _array(numpy.asarray(value), room)
    registration = codec.registration_of(kind)
    if registration is not None:
        return b"o" + _write_str(registration.name) + encode(registration.encode(value), room)
    if isinstance(value, type):
        return b"c" + _class(value)
    hook = getattr(kind, HOOK, None)
    if hook is not None:
        return b"k" + _write_str(full_name(kind)) + encode(hook(value), room)
    try:
        payload, _ = codec.encode(value)
    except UnstorableValueError:
        raise Refused(f"is of the type {full_name(kind)}") from None
    return b"v" + _size(len(payload)) + payload


def _row(tag: bytes, items: Iterable[bytes]) -> bytes:
    found = list(items)
    return tag + _size(len(found)) + b"".join(found)


def _class(kind: type) -> bytes:
    name = full_name(kind)
    if "<" in name:
        raise Refused(f"is the class {name}, whose name others may have, too")
    return _write_str(name)


def _array(array: Any, room: int) -> bytes:
    dtype = array.dtype
    _check(dtype)
    head = _described(dtype, array.shape)
    if dtype.names is None:
        return head + digest(_content(array))
    # Field by field: between them there may be bytes that mean nothing.
    return head + _row(b"l", [_write_str(name) + _array(array[name], room) for name in dtype.names])


def _check(dtype: Any) -> None:
    if dtype.hasobject or dtype.kind == "T":
        raise Refused(f"is an array of the dtype {dtype}, whose content is Python objects")


def _described(dtype: Any, shape: tuple[int, ...]) -> bytes:
    # A dtype of an extension has the name that tells it, and a str that doesn't.
    return _write_str(f"{dtype.str} {dtype.name}") + _row(b"t", map(_write_int, shape))


def _content(array: Any) -> memoryview | bytes:
    """The bytes of the items in C order."""
    if not array.nbytes:
        return b""
    numpy = sys.modules["numpy"]
    items = numpy.ascontiguousarray(array).reshape(-1)
    if array.dtype.char in _LONG_DOUBLES:
        # Some of their bytes mean nothing; stored, those are zeros.
        return codec.encode(items)[0]
    # As plain bytes first: not every dtype has a buffer.
    return memoryview(items.view(numpy.uint8))
