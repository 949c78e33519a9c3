"""Keys as bytes whose order is the keys' own order.

An encoding opens with a type tag, so that ``1``, ``"1"`` and ``b"1"`` differ and types sort apart:

    0x01  bytes     the bytes
    0x02  str       UTF-8, which sorts as code points do
    0x04  int < 0   255 - n, then the n bytes of the magnitude, complemented
    0x05  int >= 0  n, then the n bytes of the magnitude, big-endian (0 has n = 0)
    0x06  tuple     the encodings of the elements, one after another

Inside a tuple every element delimits itself: a str or bytes writes 0x00 as 0x00 0xFF and ends with 0x00,
and a nested tuple ends with 0x00. The outermost value needs no end. A key has exactly one encoding.
"""

from __future__ import annotations

from kvstore.errors import InvalidKeyError, InvalidKeyTypeError, InvalidKeyValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

Key: TypeAlias = "str | bytes | int | tuple[Key, ...]"

MAX_KEY_BYTES: Final = 511
"""The longest encoding of a key, in bytes; LMDB takes no longer one."""

ALL: Final = (b"\x01", b"\x10")
"""The range [start, stop) that holds every encoded key, and no name of a database."""

_BYTES, STR, _NEGATIVE, _NATURAL, _TUPLE = 0x01, 0x02, 0x04, 0x05, 0x06
_END = 0x00
_ESCAPED = b"\x00\xff"
_MAX_INT_BYTES = 255
_NATURAL_HEADS = [bytes((_NATURAL, size)) for size in range(256)]
_NEGATIVE_HEADS = [bytes((_NEGATIVE, 255 - size)) for size in range(256)]


def encode(key: Key) -> bytes:
    """The ordered encoding of a key, 1 to 511 bytes.

    Raises InvalidKeyError: as a TypeError for a type outside the key model (subclasses and bool included), as
    a ValueError for a key that is too long, an int of more than 255 bytes, or a str with a lone surrogate.
    """
    if type(key) is str:
        try:
            data = b"\x02" + key.encode()
        except UnicodeEncodeError as error:
            raise _surrogate(error) from None
    elif type(key) is bytes:
        data = b"\x01" + key
    elif type(key) is int:
        return _encode_int(key)
    else:
        data = _encode_tuple(key)
    if len(data) > MAX_KEY_BYTES:
        raise InvalidKeyValueError(
            f"the key is {len(data)} bytes encoded; a store takes at most {MAX_KEY_BYTES}. Hash it, or shorten it"
        )
    return data


def encode_lookup(key: object) -> bytes | None:
    """The encoding of a key that is looked up, or None for what no store can hold.

    Follows dict: a float, None or an overlong str is merely absent, an unhashable key raises TypeError.
    """
    if type(key) is str:
        try:
            data = b"\x02" + key.encode()
        except UnicodeEncodeError:
            return None
        return data if len(data) <= MAX_KEY_BYTES else None
    try:
        return encode(key)  # type: ignore[arg-type]  # what is no Key is refused by it
    except InvalidKeyValueError:
        return None
    except InvalidKeyTypeError:
        hash(key)
        return None


def encode_int_lookup(key: int) -> bytes | None:
    """As ``encode_lookup``, of an int."""
    size = (key.bit_length() + 7) >> 3
    if size > _MAX_INT_BYTES:
        return None
    return _NATURAL_HEADS[size] + key.to_bytes(size, "big") if key >= 0 else _encode_int(key)


def decode(data: bytes | memoryview) -> Key:
    """The key that `encode` made these bytes of. Raises ValueError for bytes that it can't have made."""
    if not 0 < len(data) <= MAX_KEY_BYTES:
        raise ValueError(f"an encoded key has 1 to {MAX_KEY_BYTES} bytes, this has {len(data)}")
    if type(data) is not bytes:
        data = bytes(data)
    tag = data[0]
    if tag == STR:
        return data[1:].decode()
    if tag == _BYTES:
        return data[1:]
    if tag == _TUPLE:
        return _decode_tuple(data)
    key, end = _decode_int(data, 0)
    if end != len(data):
        raise ValueError("bytes follow the encoded int")
    return key


def prefix_range(prefix: Key) -> tuple[bytes, bytes]:
    """The range [start, stop) of the encoded keys that begin with a prefix.

    For str and bytes: all that start with it. For a tuple: all tuples whose leading elements are its own,
    itself included. Raises InvalidKeyError, as a TypeError for an int, which has no prefixes.
    """
    if type(prefix) is int:
        raise InvalidKeyTypeError("an int can't be a prefix; give a str, bytes or tuple, or use start= and stop=")
    start = encode(prefix)
    if type(prefix) is tuple and len(start) < MAX_KEY_BYTES:
        # What follows a whole element is a tag. The successor would take in ("a\0",) under ("a",).
        return start, start + b"\x10"
    return start, _successor(start)


def _successor(data: bytes) -> bytes:
    """The least bytes above everything that starts with `data`; its tag keeps it from being all 0xFF."""
    head = data.rstrip(b"\xff")
    return head[:-1] + bytes((head[-1] + 1,))


def _encode_int(key: int) -> bytes:
    size = (key.bit_length() + 7) >> 3
    if size > _MAX_INT_BYTES:
        raise InvalidKeyValueError(
            f"an int key has at most {_MAX_INT_BYTES} bytes, this has {size}; use its str or a hash of it"
        )
    if key >= 0:
        return _NATURAL_HEADS[size] + key.to_bytes(size, "big")
    # The complement of the magnitude, which is -key.
    return _NEGATIVE_HEADS[size] + ((1 << (size << 3)) - 1 + key).to_bytes(size, "big")


def _encode_tuple(key: object) -> bytes:
    """Without recursion, so that the depth of a key is limited by its length alone."""
    if type(key) is not tuple:
        raise _bad_type(key)
    parts = [b"\x06"]
    outer = []
    elements = iter(key)
    while True:
        for element in elements:
            kind = type(element)
            if kind is str:
                try:
                    text = element.encode()
                except UnicodeEncodeError as error:
                    raise _surrogate(error) from None
                parts += b"\x02", text.replace(b"\x00", _ESCAPED), b"\x00"
            elif kind is int:
                parts.append(_encode_int(element))
            elif kind is bytes:
                parts += b"\x01", element.replace(b"\x00", _ESCAPED), b"\x00"
            elif kind is tuple:
                parts.append(b"\x06")
                outer.append(elements)
                elements = iter(element)
                break
            else:
                raise _bad_type(element)
        else:
            if not outer:
                return b"".join(parts)
            parts.append(b"\x00")
            elements = outer.pop()


def _decode_int(data: bytes, start: int) -> tuple[int, int]:
    """The int encoded at `start`, and where it ends."""
    tag, size = data[start], data[start + 1 : start + 2]
    if tag not in (_NEGATIVE, _NATURAL):
        raise ValueError(f"0x{tag:02x} is not the tag of a key")
    if not size:
        raise ValueError("the encoded int is cut off")
    count = size[0] if tag == _NATURAL else 255 - size[0]
    end = start + 2 + count
    body = data[start + 2 : end]
    if len(body) != count:
        raise ValueError("the encoded int is cut off")
    number = int.from_bytes(body, "big")
    if tag == _NATURAL:
        if body[:1] == b"\x00":
            raise ValueError("the encoded int has a leading zero")
        return number, end
    if not body or body[0] == 0xFF:
        raise ValueError("the encoded negative int has a leading zero")
    return number + 1 - (1 << (count << 3)), end


def _decode_text(data: bytes, start: int) -> tuple[bytes, int]:
    """The escaped bytes from `start` to their end, and where the next element begins."""
    end = start
    while True:
        end = data.find(_END, end)
        if end < 0:
            raise ValueError("an element of the encoded tuple is cut off")
        if data[end + 1 : end + 2] != b"\xff":
            return data[start:end].replace(_ESCAPED, b"\x00"), end + 1
        end += 2


def _decode_tuple(data: bytes) -> Key:
    outer: list[list[Key]] = []
    elements: list[Key] = []
    at = 1
    while at < len(data):
        tag = data[at]
        if tag == STR:
            raw, at = _decode_text(data, at + 1)
            elements.append(raw.decode())
        elif tag == _BYTES:
            raw, at = _decode_text(data, at + 1)
            elements.append(raw)
        elif tag == _TUPLE:
            outer.append(elements)
            elements = []
            at += 1
        elif tag == _END:
            if not outer:
                raise ValueError("the encoded tuple ends twice")
            inner = tuple(elements)
            elements = outer.pop()
            elements.append(inner)
            at += 1
        else:
            number, at = _decode_int(data, at)
            elements.append(number)
    if outer:
        raise ValueError("a nested tuple of the encoded key is cut off")
    return tuple(elements)


_NUMPY_SCALARS = {"integer": "int(key)", "str_": "str(key)", "bytes_": "bytes(key)"}


def _bad_type(key: object) -> InvalidKeyError:
    kind = type(key)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    way_out = "convert it to exactly one of these"
    for base in kind.__mro__:
        if base.__module__ == "numpy" and base.__name__ in _NUMPY_SCALARS:
            way_out = f"use {_NUMPY_SCALARS[base.__name__]}"
    return InvalidKeyTypeError(f"a key is a str, bytes, int or a tuple of them, not {name}; {way_out}")


def _surrogate(error: UnicodeEncodeError) -> InvalidKeyError:
    return InvalidKeyValueError(
        f"the key has a lone surrogate at character {error.start}, which UTF-8 has no bytes for; "
        "for a file name, use os.fsencode"
    )
