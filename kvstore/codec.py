"""Values as msgpack bytes: each comes back exactly as it was, of the same types, or it is refused here.

A payload is plain or extended. A plain one is what msgpack makes of None, bool, int, float, str, bytes, list
and dict, and ``msgpack.unpackb(payload)`` gives the value back. An extended one holds the other types too, by
the codes of `kvstore.extensions` and `kvstore.composites`. Decoding runs no code but registered functions.
"""

from __future__ import annotations

import sys
import threading

from msgpack import ExtType, Packer, Unpacker, packb, unpackb
from msgpack.exceptions import UnpackException

from kvstore.errors import UnstorableValueError
from kvstore.plain import IMMUTABLE, MAX_DEPTH, PLAIN, VIEWS, is_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn, TypeVar

    from kvstore.codec_extended import Extended
    from kvstore.registry import Opaque, Registration

    T = TypeVar("T")

__all__ = ["IMMUTABLE", "MAX_DEPTH", "VIEWS", "Opaque", "decode", "decode_opaque", "encode", "register"]

KEPT_BUFFER = 256 * 1024
_CHECKED_FROM = 16 * 1024
_WHOLE_HEADS = b"\xc5\xc6\xc8\xc9\xda\xdb"
"""What opens a str, bytes or extension: a payload that has no array in it."""


_has_lock: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)


def _new_packer() -> Callable[[object], bytes]:
    """A packer for all threads: it runs no code but its own, so that nothing gets between.

    Other threads do get between where msgpack is in pure Python, or Python runs without its lock.
    """
    if Packer.__module__ == "msgpack.fallback" or not _has_lock():
        return packb  # type: ignore[no-any-return]
    return Packer().pack  # type: ignore[no-any-return]


def renew_packer() -> None:
    """Give back the memory of a packer that a large value went through: its buffer never shrinks."""
    global pack_plain  # noqa: PLW0603
    pack_plain = _new_packer()


pack_plain = _new_packer()
"""msgpack's bytes of what ``is_plain``. After one of more than ``KEPT_BUFFER`` bytes call ``renew_packer``; it may be another
afterwards.
"""


def _pack_now(value: object) -> bytes:
    return pack_plain(value)


_extended_half: Extended | None = None
_making = threading.Lock()


def _extended() -> Extended:
    """The codec's other half: made, and imported, when the first value or type comes that needs it."""
    global _extended_half  # noqa: PLW0603
    if _extended_half is None:
        from kvstore.codec_extended import Extended

        with _making:  # one for all, as it keeps the registered types
            if _extended_half is None:
                _extended_half = Extended(_pack_now, unpackb, UnpackException, ExtType._make)
    return _extended_half


def __getattr__(name: str) -> object:
    # Named by tools, and never needed to store a value.
    if name == "Opaque":
        from kvstore.registry import Opaque

        return Opaque
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register(type: type[T], name: str, encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
    """Store values of exactly this type, under a name, as the storable value that `encode` makes of them.

    `decode` does the reverse, and returns a new value of exactly the type. A process must make the call
    before it reads such a value. Making it again replaces the functions. Raises ValueError for a name or a
    type that is taken.

        kvstore.register(Point, "point", lambda point: (point.x, point.y), lambda xy: Point(*xy))
    """
    _extended().registry.add(type, name, encode, decode)


def registration_of(kind: type) -> Registration | None:
    """How values of exactly this type are stored, where `register` was told."""
    return None if _extended_half is None else _extended_half.registry.by_type.get(kind)


def encode(value: Any) -> tuple[bytes, bool]:
    """Payload of a value, and whether it is extended.

    The same bytes for the same value in every process, whatever its hash seed; a dict in another order is
    another value. Raises UnstorableValueError, saying where in the value, for what would not come back as it
    is: a type outside the model, a subclass, a lone surrogate, containers more than `MAX_DEPTH` deep or in
    themselves.
    """
    try:
        if type(value) in PLAIN or ((type(value) is list or type(value) is dict) and is_plain(value)):
            payload, extended = pack_plain(value), False
        else:
            payload, extended = _extended().encode(value), True
    except (OverflowError, ValueError, RecursionError):
        payload, extended = _encode_carefully(value), True
    if len(payload) > KEPT_BUFFER:
        renew_packer()
    return payload, extended


def _encode_carefully(value: object) -> bytes:
    """The payload of what has an int of over 64 bits, or the refusal of what can't be packed."""
    renew_packer()
    try:
        return _extended().encode(value, careful=True)
    except RecursionError:
        raise UnstorableValueError("value is nested too deeply for what is left of the call stack") from None
    except ValueError as error:
        raise UnstorableValueError(f"value is too large: {error}") from None


def decode(payload: bytes | memoryview, extended: bool) -> object:
    """The value that `encode` made this payload of.

    Raises ValueError for bytes that are not such a payload, and UnknownTypeError for a value of a type that
    is yet to be registered. A msgpack timestamp, which `encode` never writes, reads as a float.
    """
    if len(payload) > _CHECKED_FROM:
        _check_lengths(payload)
    if extended:
        return _extended().read(payload, opaque=False)
    try:
        return unpackb(payload, ext_hook=refuse_extension, timestamp=1)
    except UnpackException as error:  # a ValueError too, and without a message
        raise ValueError(f"malformed msgpack: {error!r}") from None


unpack_plain: Final[Callable[..., Any]] = unpackb
"""msgpack's own, for the miss path, which can't afford a call more: ``unpack_plain(payload,
ext_hook=refuse_extension, timestamp=1)`` is `decode` of a plain payload of at most 16 KiB. Its ValueError may
lack a message.
"""


def decode_opaque(payload: bytes | memoryview, extended: bool) -> object:
    """As `decode`, with an `Opaque` in place of each value of a registered type, known here or not, and a `StoredArray`
    or `StoredScalar` (`kvstore.array_form`) for what is numpy's, installed here or not.

    `encode` makes the same payload of it again.
    """
    if not extended:
        return decode(payload, extended)
    if len(payload) > _CHECKED_FROM:
        _check_lengths(payload)
    return _extended().read(payload, opaque=True)


def refuse_extension(code: int, data: bytes) -> NoReturn:  # msgpack passes both
    """Raise the ValueError for an extension in a plain payload, which only a forger can have put there."""
    raise ValueError(f"extension {code} in a payload that is not marked as extended")


def _check_lengths(payload: bytes | memoryview) -> None:
    """Refuse an array that is longer than its payload can be, before a list of that length is made for it.

    In a short payload even the deepest nest of such arrays takes little memory.
    """
    if payload[0] in _WHOLE_HEADS:
        return
    unpacker = Unpacker(max_buffer_size=len(payload))
    unpacker.feed(payload)
    try:
        unpacker.skip()
    except UnpackException as error:
        raise ValueError(f"malformed msgpack: {error!r}") from None
