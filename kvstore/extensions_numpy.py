"""numpy's arrays and scalars among the extensions, without importing numpy where nobody has.

Writing finds numpy imported, as the value's type is numpy's; reading imports it, and leaving a stand-in needs none.
"""

from __future__ import annotations

import sys

from kvstore.errors import UnknownTypeError
from kvstore.plain import EXT_32, EXT_32_HEAD, VIEWS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

ARRAY: Final = 32
SCALAR: Final = 33

_NESTING = frozenset({tuple, frozenset})

SCALARS: Final[set[type]] = set()
"""The types of the scalars that have been met."""


def is_numpy(kind: type) -> bool:
    """Whether the type is one of numpy's arrays or scalars, or derived from one."""
    return "numpy" in sys.modules and any(
        base.__module__ == "numpy" and base.__name__ in {"ndarray", "generic"} for base in kind.__mro__
    )


def entry_of(kind: type) -> tuple[int, Callable[[Any], bytes]] | None:
    """The extension code and the writer of an array, a scalar, or a stand-in for one; None for another type."""
    if is_numpy(kind):
        arrays = _arrays()
        if not arrays.is_storable(kind):
            return None
        if issubclass(kind, arrays.VIEWS):
            VIEWS.add(kind)
        if kind is arrays.ARRAY_TYPE:
            return ARRAY, arrays.write
        SCALARS.add(kind)
        return SCALAR, arrays.write_scalar
    if kind.__module__ == "kvstore.array_form":
        from kvstore import array_form

        if kind is array_form.StoredArray:
            return ARRAY, array_form.write_stored_array
        if kind is array_form.StoredScalar:
            return SCALAR, array_form.write_stored_scalar
    return None


def have_scalar(members: Iterable[Any]) -> bool:
    """Whether a key or member is a numpy scalar, or has one in it. Without recursion: keys may be nested deeply."""
    todo = [members] if SCALARS else []
    while todo:
        for member in todo.pop():
            if type(member) in SCALARS:
                return True
            if type(member) in _NESTING:
                todo.append(member)
    return False


def way_out(kind: type) -> str:
    """What to do with a value of a type of numpy's that is not stored."""
    names = {base.__name__ for base in kind.__mro__ if base.__module__.partition(".")[0] == "numpy"}
    if "MaskedArray" in names:
        return "store (value.data, value.mask), or value.filled(...)"
    if "ndarray" in names:
        return "store numpy.asarray(value), or register its type with kvstore.register"
    return "store value.item()"


def write_whole(value: Any) -> bytes | None:
    """The payload of an array that is the whole value, or of a stand-in for one; None for anything else.

    One copy less than by way of msgpack, and the items at their place. Raises `Refused`.
    """
    kind = type(value)
    payload: bytes | None = None
    if kind is getattr(sys.modules.get("numpy"), "ndarray", None):
        payload = _arrays().write_whole(value)
    elif kind is getattr(sys.modules.get("kvstore.array_form"), "StoredArray", None):
        payload = sys.modules["kvstore.array_form"].write_whole_stored_array(value)
    return payload


def is_whole_array(payload: bytes | memoryview) -> bool:
    """Whether the payload is an array alone, as `write_whole` makes it."""
    return (
        len(payload) > EXT_32_HEAD
        and payload[0] == EXT_32
        and payload[5] == ARRAY
        and int.from_bytes(payload[1:5], "big") == len(payload) - EXT_32_HEAD
    )


def read_array(content: bytes | memoryview, start: int = 0) -> object:
    """The array whose stored form begins at `start`.

    Raises UnknownTypeError where it can't be read for want of a package, otherwise as READERS.
    """
    value: object = _arrays().read(content, start)
    return value


def read_scalar(content: bytes) -> object:
    """The scalar of a stored form. Raises as `read_array`."""
    value: object = _arrays().read_scalar(content)
    return value


def leave_array(content: bytes | memoryview, start: int = 0) -> object:
    """The stand-in of an array whose stored form begins at `start`. Raises ValueError."""
    from kvstore import array_form

    return array_form.leave_array(content, start)


def leave_scalar(content: bytes) -> object:
    """The stand-in of a scalar. Raises ValueError."""
    from kvstore import array_form

    return array_form.leave_scalar(content)


_module: Any = None


def _arrays() -> Any:
    """The module that imports numpy: kept, as an import statement takes as long as reading an array does."""
    global _module  # noqa: PLW0603
    if _module is None:
        try:
            from kvstore import arrays
        except ImportError as error:
            raise UnknownTypeError(
                "the value has a numpy array or scalar in it, and numpy can't be imported here; "
                "run pip install 'tiered-kvstore[numpy]'"
            ) from error
        _module = arrays
    return _module
