"""The scalar types that msgpack lacks, each as a msgpack extension: a code and the bytes of one value.

The codes are part of the file format. Everything here is exact: a writer refuses (raises `Refused`) what its
reader would not bring back, and a reader raises for bytes that no writer makes.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from struct import Struct

from kvstore import extensions_numpy
from kvstore.extensions_numpy import ARRAY, SCALAR, is_numpy
from kvstore.plain import IMMUTABLE
from kvstore.refusal import Refused, full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal
    from typing import Any, Final, TypeGuard
    from uuid import UUID
    from zoneinfo import ZoneInfo

BIG_INT: Final = 1
BYTEARRAY: Final = 2
COMPLEX: Final = 3
DATETIME: Final = 4
DATE: Final = 5
TIME: Final = 6
TIMEDELTA: Final = 7
DECIMAL: Final = 8
UUID_CODE: Final = 9
# 16 to 31 open a composite (see kvstore.composites); 32 and 33 are numpy's (see kvstore.extensions_numpy).

_COMPLEX = Struct(">dd")
_DATETIME = Struct(">HBBBBBIB")
_DATE = Struct(">HBB")
_TIME = Struct(">BBBIB")
_TIMEDELTA = Struct(">iII")
_OFFSET = Struct(">q")
_MICROSECOND = timedelta(microseconds=1)
_ZONE_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-")


def write_big_int(value: int) -> bytes:
    """The shortest two's complement, big-endian; for ints that msgpack's own 64 bits don't hold."""
    return value.to_bytes((value.bit_length() + 8) >> 3, "big", signed=True)


def _read_big_int(data: bytes) -> int:
    value = int.from_bytes(data, "big", signed=True)
    if -(1 << 63) <= value < 1 << 64 or write_big_int(value) != data:
        raise ValueError("an int is not in its shortest form")
    return value


def _write_complex(value: complex) -> bytes:
    return _COMPLEX.pack(value.real, value.imag)


def _read_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _write_datetime(value: datetime) -> bytes:
    moment = _DATETIME.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
    )
    return moment + _write_zone(value.tzinfo)


def _read_datetime(data: bytes) -> datetime:
    zone = _read_zone(data[_DATETIME.size :])
    year, month, day, hour, minute, second, micro, fold = _DATETIME.unpack(data[: _DATETIME.size])
    return datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _write_date(value: date) -> bytes:
    return _DATE.pack(value.year, value.month, value.day)


def _read_date(data: bytes) -> date:
    return date(*_DATE.unpack(data))


def _write_time(value: time) -> bytes:
    moment = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return moment + _write_zone(value.tzinfo)


def _read_time(data: bytes) -> time:
    hour, minute, second, micro, fold = _TIME.unpack(data[: _TIME.size])
    return time(hour, minute, second, micro, _read_zone(data[_TIME.size :]), fold=fold)


def _write_timedelta(value: timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _read_timedelta(data: bytes) -> timedelta:
    value = timedelta(*_TIMEDELTA.unpack(data))
    if _write_timedelta(value) != data:
        raise ValueError("a timedelta is not normalized")
    return value


def _write_zone(zone: tzinfo | None) -> bytes:
    """Nothing for naive, "u" and microseconds for an offset, "n" as well with a name, "z" for an IANA key."""
    if zone is None:
        return b""
    if type(zone) is timezone:
        # What tells a given name from a made one.
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        raw = _OFFSET.pack(offset // _MICROSECOND)
        try:
            return b"n" + raw + name[0].encode() if name else b"u" + raw
        except UnicodeEncodeError:
            raise Refused("has a time zone whose name has a lone surrogate") from None
    if _is_zone_info(zone):
        # Its key alone won't do: a zone of from_file or no_cache has other rules, or compares otherwise.
        if not _is_standard(zone):
            raise Refused("has a ZoneInfo that ZoneInfo(key) doesn't give back; make it with ZoneInfo(key)")
        return b"z" + zone.key.encode()
    raise Refused(f"has a time zone of type {full_name(type(zone))}; use datetime.timezone or zoneinfo.ZoneInfo")


def _is_zone_info(zone: tzinfo) -> TypeGuard[ZoneInfo]:
    return is_named(type(zone), "zoneinfo", "ZoneInfo")


def _is_standard(zone: ZoneInfo) -> bool:
    try:
        return _find_zone(zone.key) is zone
    except ValueError:  # a zone of from_file may have no key, or any
        return False


def _read_zone(data: bytes) -> tzinfo | None:
    if not data:
        return None
    kind, rest = data[:1], data[1:]
    if kind == b"z":
        return _find_zone(rest.decode())
    offset = timedelta(microseconds=_OFFSET.unpack(rest[:8])[0])
    if kind == b"n":
        return timezone(offset, rest[8:].decode())
    if kind == b"u" and len(rest) == _OFFSET.size:
        return timezone(offset)
    raise ValueError("a time zone is malformed")


def _find_zone(key: object) -> ZoneInfo:
    from zoneinfo import ZoneInfo

    if type(key) is not str or not all(part and _ZONE_LETTERS.issuperset(part) for part in key.split("/")):
        raise ValueError("a time zone's key is malformed")
    try:
        return ZoneInfo(key)
    except (LookupError, OSError, ValueError):
        raise ValueError(f"the time zone {key!r} is not known on this machine; install the package tzdata") from None


def _write_decimal(value: Decimal) -> bytes:
    # The context's `capitals` reaches into str(), and a decimal has no other lower-case e.
    return str(value).replace("e", "E").encode()


def _read_decimal(data: bytes) -> Decimal:
    from decimal import Decimal

    meet(Decimal)
    value = Decimal(data.decode())
    if _write_decimal(value) != data:
        raise ValueError("a Decimal is not in its own form")
    return value


def _write_uuid(value: UUID) -> bytes:
    from uuid import SafeUUID

    if type(value.int) is not int or type(value.is_safe) is not SafeUUID:
        raise Refused("is a UUID that was made of unusual parts")
    if value.is_safe is SafeUUID.unknown:
        return value.bytes
    return value.bytes + bytes((value.is_safe is SafeUUID.unsafe,))


def _read_uuid(data: bytes) -> UUID:
    from uuid import UUID, SafeUUID

    meet(UUID)
    if len(data) == 16:
        return UUID(bytes=data)
    if len(data) == 17 and data[16] <= 1:
        return UUID(bytes=data[:16], is_safe=SafeUUID.unsafe if data[16] else SafeUUID.safe)
    raise ValueError("a UUID is malformed")


def read_array(content: bytes | memoryview, start: int = 0) -> object:
    """The array whose stored form begins at `start`. UnknownTypeError where its type isn't known here."""
    value = extensions_numpy.read_array(content, start)
    meet(type(value))
    return value


def _read_scalar(data: bytes) -> object:
    value = extensions_numpy.read_scalar(data)
    meet(type(value))
    return value


WRITERS: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    bytearray: (BYTEARRAY, bytes),
    complex: (COMPLEX, _write_complex),
    datetime: (DATETIME, _write_datetime),
    date: (DATE, _write_date),
    time: (TIME, _write_time),
    timedelta: (TIMEDELTA, _write_timedelta),
}
"""By exact type: the extension code, and value -> bytes. Raises `Refused`. Decimal, UUID and numpy's join when met."""

READERS: Final[dict[int, Callable[[bytes], object]]] = {
    BIG_INT: _read_big_int,
    BYTEARRAY: bytearray,
    COMPLEX: _read_complex,
    DATETIME: _read_datetime,
    DATE: _read_date,
    TIME: _read_time,
    TIMEDELTA: _read_timedelta,
    DECIMAL: _read_decimal,
    UUID_CODE: _read_uuid,
    ARRAY: read_array,
    SCALAR: _read_scalar,
}
"""By code: bytes -> value. Bad bytes raise ValueError, ArithmeticError, TypeError or struct.error."""


OPAQUE_READERS: Final[dict[int, Callable[[bytes], object]]] = {
    **READERS,
    ARRAY: extensions_numpy.leave_array,
    SCALAR: extensions_numpy.leave_scalar,
}
"""As `READERS`, with stand-ins for what needs numpy."""


def is_named(kind: type, module: str, name: str) -> bool:
    """Whether the type is `module.name`. Imports nothing: a value's type has its module imported."""
    return getattr(sys.modules.get(module), name, None) is kind


def meet(kind: type) -> None:
    """Let a type into the tables that waits outside; see `kvstore.composites.meet`."""
    if kind in WRITERS:
        return
    if is_named(kind, "decimal", "Decimal"):
        WRITERS[kind] = DECIMAL, _write_decimal
    elif is_named(kind, "uuid", "UUID"):
        WRITERS[kind] = UUID_CODE, _write_uuid
    elif (entry := extensions_numpy.entry_of(kind)) is not None:
        WRITERS[kind] = entry
        if not is_numpy(kind):
            return
    else:
        return
    IMMUTABLE.add(kind)
