"""Reading an extended payload: what becomes of the extensions and arrays in it."""

from __future__ import annotations

from kvstore.composites import Marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Reader:
    """The hooks of one decoding. They raise ValueError, ArithmeticError, TypeError or struct.error."""

    __slots__ = ("_markers", "_readers", "_unopened")

    def __init__(self, markers: dict[int, Marker], readers: dict[int, Callable[[bytes], object]]) -> None:
        self._markers = markers
        self._readers = readers
        self._unopened = 0
        """Markers that have been read and have not yet opened a container."""

    def extension(self, code: int, data: bytes) -> object:
        """The scalar, or the marker, that an extension stands for."""
        marker = self._markers.get(code)
        if marker is None:
            reader = self._readers.get(code)
            if reader is None:
                raise ValueError(f"unknown extension {code}: damaged, or of a newer version")
            return reader(data)
        if data:
            raise ValueError("a marker has content")
        self._unopened += 1
        return marker

    def array(self, items: list[Any]) -> object:
        """The list, or what it stands for where a marker opens it. Its items come here before it."""
        if items and type(items[0]) is Marker:
            self._unopened -= 1
            return items[0].build(items)
        return items

    def finish(self) -> None:
        """Refuse a value with a marker in another place than the first of an array."""
        if self._unopened:
            raise ValueError("a marker opens nothing")
