"""One record as a dump carries it."""

from __future__ import annotations

from kvstore import codec, record
from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvstore.keys import Key


class DumpRecord(Frozen):
    """A key, what is stored under it, and until when.

    namespace   "" for the default one
    value       with a `codec.Opaque` for every value of a registered type, and a `StoredArray` or `StoredScalar`
                (`kvstore.array_form`) for every array and scalar of numpy's
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
