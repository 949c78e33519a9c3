"""What msgpack has of its own: which values are plain all through, and which types are immutable."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from types import NoneType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

PLAIN: Final[frozenset[type]] = frozenset({NoneType, bool, int, float, str, bytes})
"""The exact scalar types that msgpack has."""

NATIVE_KEYS: Final[frozenset[type]] = frozenset({str, bytes})
"""The exact types of keys that msgpack reads back in a map, unless told otherwise."""

IMMUTABLE: Final[set[type]] = {*PLAIN, complex, datetime, date, time, timedelta}
"""The exact types whose values nobody can change, and that may therefore be shared. Decimal, UUID, Fraction, and numpy's
arrays and scalars join when they are met: before a value of theirs has been encoded or decoded."""

VIEWS: Final[set[type]] = set()
"""Those of `IMMUTABLE` whose values nobody can change as they are decoded, and somebody as they are given: numpy's arrays
and structured scalars, which join when they are met."""

MAX_DEPTH: Final = 256
"""How deep containers may nest in a stored value; a value of a registered type counts as one.

Reading stops at 1,024, where msgpack does.
"""

EXT_32: Final = 0xC9
EXT_32_HEAD: Final = 6
"""What opens an extension of up to 4 GiB in msgpack, and the bytes that this takes: itself, a length in four bytes, and
the extension's code."""

_CONTAINERS = frozenset({list, dict})


def is_plain(value: Any, room: int = MAX_DEPTH) -> bool:
    """Whether a list or dict is plain all through, and no more than `room` deep."""
    if room == 0:
        return False
    if type(value) is list:
        if PLAIN.issuperset(map(type, value)):
            return True
        for item in value:
            if type(item) not in PLAIN and not (type(item) in _CONTAINERS and is_plain(item, room - 1)):
                return False
        return True
    for key, item in value.items():
        if type(key) is not str and type(key) is not bytes:
            return False
        if type(item) not in PLAIN and not (type(item) in _CONTAINERS and is_plain(item, room - 1)):
            return False
    return True
