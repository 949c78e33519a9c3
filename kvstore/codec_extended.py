"""The extended half of the codec: values with types that msgpack lacks, and the types that are registered."""

from __future__ import annotations

from struct import error as StructError  # noqa: N812  # the module's own name for it is no name

from kvstore.codec_reader import Reader
from kvstore.codec_writer import Writer
from kvstore.composites import MARKERS, OPENERS, OWN_TYPE, meet, own_type_markers
from kvstore.errors import UnstorableValueError
from kvstore.extensions import OPAQUE_READERS, READERS, WRITERS, read_array
from kvstore.extensions_numpy import is_whole_array, leave_array, write_whole
from kvstore.plain import EXT_32_HEAD, IMMUTABLE
from kvstore.refusal import Refused
from kvstore.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Extended:
    """Packs values in terms of what msgpack has, and unpacks them. Keeps the registered types.

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
        self._pack = pack
        self._unpack = unpack
        self._malformed = malformed
        self._writer = Writer(pack, extension, self.registry, careful=False)
        self._careful_writer = Writer(pack, extension, self.registry, careful=True)
        build, leave = own_type_markers(self.registry)
        self._tables = {**MARKERS, OWN_TYPE: build}, READERS
        self._opaque_tables = {**MARKERS, OWN_TYPE: leave}, OPAQUE_READERS

    def encode(self, value: object, *, careful: bool = False) -> bytes:
        """The payload of the value. Raises UnstorableValueError, and what packing raises.

        `careful` looks at each str and int that packing could fail on, so that the error can say where it is.
        """
        try:
            payload = write_whole(value)
        except Refused as refusal:
            raise UnstorableValueError(f"value {refusal}") from refusal.__cause__
        if payload is not None:
            meet(type(value))
            return payload
        return self._pack((self._careful_writer if careful else self._writer).write(value))

    def read(self, payload: bytes | memoryview, *, opaque: bool) -> object:
        """The value of an extended payload; with `opaque`, stand-ins for registered types and what is numpy's."""
        try:
            if is_whole_array(payload):
                return leave_array(payload, EXT_32_HEAD) if opaque else read_array(payload, EXT_32_HEAD)
            reader = Reader(*self._opaque_tables if opaque else self._tables)
            value = self._unpack(payload, ext_hook=reader.extension, list_hook=reader.array, timestamp=1)
        except (self._malformed, TypeError, ArithmeticError, StructError) as error:
            raise ValueError(f"malformed value: {error!r}") from error
        reader.finish()
        return value


def _is_in_model(kind: type) -> bool:
    meet(kind)
    return kind is list or kind in IMMUTABLE or kind in WRITERS or kind in OPENERS
