"""What a namespace may be called."""

from __future__ import annotations

from kvstore.backends import OWN_SPACE
from kvstore.errors import InvalidKeyTypeError, InvalidKeyValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MAX_NAME_BYTES: Final = 200


def checked_name(name: str) -> str:
    """The name, where a namespace may have it; ``InvalidKeyError`` otherwise."""
    if type(name) is not str:
        raise InvalidKeyTypeError(f"a namespace's name must be a str, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidKeyValueError(f"the namespace's name {name!r} has a lone surrogate; use valid Unicode") from None
    if not 0 < size <= MAX_NAME_BYTES or "\0" in name or name.startswith(OWN_SPACE):
        raise InvalidKeyValueError(
            f"the namespace's name {name!r} must have 1 to {MAX_NAME_BYTES} bytes in UTF-8, no NUL, "
            f"and not begin with {OWN_SPACE!r}, which is the library's own"
        )
    return name
