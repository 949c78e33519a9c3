"""One stored record: a header byte, an expiry where flagged, the payload, a checksum.

    offset  bytes  what
    0       1      header: record format 1 in the high nibble, flags in the low one
    1       8      only with flag EXPIRES: big-endian milliseconds since the epoch
    ...     1+     payload, of the codec; flag EXTENDED says in which of its two forms
    -8      8      XXH3-64, big-endian: the header is its seed, the binding and all after the header its input

The binding is what a record belongs to: the namespace's name in UTF-8 (nothing for the default one) and the
encoded key. It is not stored, so a record that turns up under another key doesn't match its checksum.
"""

from __future__ import annotations

from xxhash import xxh3_64, xxh3_64_digest

from kvstore import codec
from kvstore.codec import decode, encode, refuse_extension, unpack_plain
from kvstore.plain import PLAIN, is_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final, TypeVar

    T = TypeVar("T")

EXPIRES: Final = 0x01
EXTENDED: Final = 0x02

_FORMAT = 0x10
_PLAIN, _EXTENDED = _FORMAT, _FORMAT | EXTENDED
_PLAIN_HEADER = bytes((_PLAIN,))
_HEADERS = {header: bytes((header,)) for header in range(_FORMAT, _FORMAT + 4)}
_SHORTEST = 1 + 1 + 8
_COPY_LIMIT = 8 * 1024
"""Records of up to this many bytes are copied to be hashed in one call; longer ones are hashed in place."""

# Slices made once: making one is a good part of what a short record costs to take apart.
_REST, _CHECKSUM = slice(1, -8), slice(-8, None)


def pack(binding: bytes, payload: bytes, extended: bool, expires: int | None) -> bytes:
    """The record of a payload that is stored under `binding`.

    `expires` is in milliseconds since the epoch. Raises ValueError where it doesn't fit 8 bytes, unsigned.
    """
    header = _EXTENDED if extended else _PLAIN
    if expires is not None:
        if not 0 <= expires < 1 << 64:
            raise ValueError(f"an expiry is 0 to 2**64 - 1 milliseconds since the epoch, not {expires}")
        header |= EXPIRES
        payload = expires.to_bytes(8, "big") + payload
    if len(payload) <= _COPY_LIMIT:
        return _HEADERS[header] + payload + xxh3_64_digest(binding + payload, header)
    checksum = xxh3_64(binding, header)
    checksum.update(payload)
    return b"".join((_HEADERS[header], payload, checksum.digest()))


def dump(binding: bytes, value: object) -> tuple[bytes, bytes, bool]:
    """The record of a value that never ends, its payload, and whether that is extended. Raises what `encode` does.

    The reverse of `load`: for a short plain value everything happens here, for the calls that it spares.
    """
    payload = None
    try:
        if type(value) in PLAIN or ((type(value) is list or type(value) is dict) and is_plain(value)):
            payload = codec.pack_plain(value)
    except (OverflowError, ValueError, RecursionError):
        pass  # `encode` stores it otherwise, or says why not
    if payload is None:
        payload, extended = encode(value)
        return pack(binding, payload, extended, None), payload, extended
    if len(payload) <= _COPY_LIMIT:
        return _PLAIN_HEADER + payload + xxh3_64_digest(binding + payload, _PLAIN), payload, False
    if len(payload) > codec.KEPT_BUFFER:
        codec.renew_packer()
    return pack(binding, payload, False, None), payload, False


def dump_all(prefix: bytes, values: Iterable[tuple[bytes, object]]) -> Iterator[bytes]:
    """As `dump`, the records alone, of many values, each with its encoded key, which follows the prefix in its binding."""
    pack_plain = codec.pack_plain
    for encoded, value in values:
        kind = type(value)
        try:
            if kind in PLAIN or ((kind is list or kind is dict) and is_plain(value)):
                payload = pack_plain(value)
                if len(payload) <= _COPY_LIMIT:
                    yield _PLAIN_HEADER + payload + xxh3_64_digest(prefix + encoded + payload, _PLAIN)
                    continue
        except (OverflowError, ValueError, RecursionError):
            codec.renew_packer()  # what it has of the value would come before the next one
        yield dump(prefix + encoded, value)[0]
        pack_plain = codec.pack_plain


def unpack(binding: bytes, raw: bytes | memoryview) -> tuple[bytes | memoryview, bool, int | None]:
    """The payload of the record under `binding`, whether it is extended, and its expiry.

    The expiry is in milliseconds since the epoch, or None. The payload of a long record, and of a view, is a
    view of `raw`. Raises ValueError, with the reason, for what `pack` didn't make for this binding.
    """
    if len(raw) < _SHORTEST:
        raise ValueError(f"the record is too short: {len(raw)} bytes")
    header = raw[0]
    if header not in _HEADERS:
        raise ValueError(f"unknown record format: header 0x{header:02x}; it is damaged, or of a newer version")
    if len(raw) <= _COPY_LIMIT:
        rest: bytes | memoryview = raw[_REST]
        digest = xxh3_64_digest(binding + rest, header)
    else:
        rest = memoryview(raw)[_REST]
        checksum = xxh3_64(binding, header)
        checksum.update(rest)
        digest = checksum.digest()
    if digest != raw[_CHECKSUM]:
        raise ValueError("checksum mismatch: the record is damaged, or belongs to another key")
    if not header & EXPIRES:
        return rest, header & EXTENDED != 0, None
    if len(rest) <= 8:
        raise ValueError(f"the record is too short for its expiry: {len(raw)} bytes")
    return rest[8:], header & EXTENDED != 0, int.from_bytes(rest[:8], "big")


def load(binding: bytes, raw: bytes) -> tuple[Any, bytes | memoryview, bool, int | None]:
    """The value of the record under `binding`, and what `unpack` says of it. Raises what it and `decode` do.

    The miss path: for a short plain record everything happens here, for the calls that it spares.
    """
    if len(raw) <= _COPY_LIMIT:
        payload = raw[_REST]
        if xxh3_64_digest(binding + payload, _PLAIN) == raw[_CHECKSUM] and raw[0] == _PLAIN:
            value = unpack_plain(payload, ext_hook=refuse_extension, timestamp=1)
            return value, payload, False, None
    rest, extended, expires = unpack(binding, raw)
    return decode(rest, extended), rest, extended, expires


def load_live(binding: bytes, raw: bytes | memoryview, clock: Callable[[], float], ended: T) -> Any | T:
    """The value of the record under `binding`; `ended` where its time is over, by a clock that gives seconds since the
    epoch. Raises as `load`, and of what is over only what `unpack` does.
    """
    if len(raw) <= _COPY_LIMIT:
        payload = raw[_REST]
        if xxh3_64_digest(binding + payload, _PLAIN) == raw[_CHECKSUM] and raw[0] == _PLAIN:
            return unpack_plain(payload, ext_hook=refuse_extension, timestamp=1)
    rest, extended, expires = unpack(binding, raw)
    if expires is not None and expires <= clock() * 1000:
        return ended
    return decode(rest, extended)


def expiry_of(raw: bytes | memoryview) -> int | None:
    """The expiry that a record claims, unverified: cheap, for what needs no payload. None without one."""
    if len(raw) >= _SHORTEST + 8 and raw[0] & EXPIRES:
        return int.from_bytes(raw[1:9], "big")
    return None
