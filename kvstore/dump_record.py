"""What a dump carries: records, and lists and sets with their elements."""

from __future__ import annotations

from kvstore import codec, record
from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from kvstore.elements import Kind
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


class DumpStructure(Frozen):
    """A list or a set, whose elements follow it: of a list each as a ``DumpItem``, of a set as a ``DumpMember``.

    namespace   "" for the default one
    kind        "list" or "set"
    expires     milliseconds since the epoch, None for never
    """

    namespace: str
    key: Key
    kind: Kind
    expires: int | None


class DumpItem(Frozen):
    """The next item of the list before it; the value as of a ``DumpRecord``."""

    value: object


class DumpMember(Frozen):
    """The next member, in key order, of the set before it."""

    key: Key


Dumped: TypeAlias = "DumpRecord | DumpStructure | DumpItem | DumpMember"
"""What a store exports, and imports: the structures of a namespace, each followed by its elements, then its records."""
