"""The extended half of the codec: values with types that msgpack lacks, and the types that are registered."""

from __future__ import annotations

from struct import error as StructError  # noqa: N812  # the module's own name for it is no name

from kvstore.codec_reader import Reader
from kvstore.codec_writer import Writer
from kvstore.composites import MARKERS, OPENERS, OWN_TYPE, meet, own_type_markers
from kvstore.extensions import WRITERS
from kvstore.plain import IMMUTABLE
from kvstore.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Extended:
    """Lowers values to what msgpack packs, and unpacks them. Keeps the registered types.

    `pack`, `unpack` and `malformed`, the exception of bytes that `unpack` can't read, are msgpack's;
    `extension` makes, of a code and data, what `pack` writes as an extension.
    """

    def __init__(
        self,
        pack: Callable[[object], bytes],
        unpack: Callable[..., Any],
        malformed: type[Exception],
        extension: Callable[[tuple[int, bytes]], object],
    ) -> None:
        self.registry = Registry(_is_in_model)
        self._unpack = unpack
        self._malformed = malformed
        self._writer = Writer(pack, extension, self.registry, careful=False)
        self._careful_writer = Writer(pack, extension, self.registry, careful=True)
        build, leave = own_type_markers(self.registry)
        self._markers = {**MARKERS, OWN_TYPE: build}
        self._opaque_markers = {**MARKERS, OWN_TYPE: leave}

    def lower(self, value: object, *, careful: bool = False) -> object:
        """What to pack in place of the value. Raises UnstorableValueError, and what packing raises.

        `careful` looks at each str and int that packing could fail on, so that the error can say where it is.
        """
        return (self._careful_writer if careful else self._writer).write(value)

    def read(self, payload: bytes | memoryview, *, opaque: bool) -> object:
        """The value of an extended payload; with `opaque`, an `Opaque` for each of a registered type."""
        reader = Reader(self._opaque_markers if opaque else self._markers)
        try:
            value = self._unpack(payload, ext_hook=reader.extension, list_hook=reader.array, timestamp=1)
        except (self._malformed, TypeError, ArithmeticError, StructError) as error:
            raise ValueError(f"malformed value: {error!r}") from error
        reader.finish()
        return value


def _is_in_model(kind: type) -> bool:
    meet(kind)
    return kind is list or kind in IMMUTABLE or kind in WRITERS or kind in OPENERS
