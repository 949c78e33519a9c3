"""One record as a dump carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvstore import codec, record

if TYPE_CHECKING:
    from kvstore.keys import Key


@dataclass(frozen=True, slots=True)
class DumpRecord:
    """A key, what is stored under it, and until when.

    namespace   "" for the default one
    value       with a `codec.Opaque` for every value of a registered type
    expires     milliseconds since the epoch, None for never
    """

    namespace: str
    key: Key
    value: object
    expires: int | None

    def stored_bytes(self) -> int:
        """Length of the record as it is stored, without its key."""
        payload, extended = codec.encode(self.value)
        return len(record.pack(b"", payload, extended, self.expires))
