"""What every face of a space says of its lists and sets: where they begin. The rest is imported with the first of them."""

from __future__ import annotations

from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvstore.keys import Key
    from kvstore.structures_base import Reads, Writes
    from kvstore.structures_list import List, ReadableList
    from kvstore.structures_members import ReadableSet
    from kvstore.structures_set import Set


class HasStructures:
    """Lists and sets for reading."""

    def list(self: Reads, key: Key) -> ReadableList:
        """The list of that key, as it is here. Raises ``InvalidKeyError`` for a key of more than 502 bytes encoded."""
        from kvstore.structures_list import ReadableList

        return ReadableList(self, key)

    def set_of(self: Reads, key: Key) -> ReadableSet:
        """The set of that key, as it is here. Raises as ``list``."""
        from kvstore.structures_members import ReadableSet

        return ReadableSet(self, key)

    def structures(self: Reads) -> Iterator[tuple[Key, str]]:
        """The keys that have a structure, each with ``"list"`` or ``"set"``, in key order, over one consistent view."""
        from kvstore.structures_base import structures

        return structures(self)


class ChangesStructures(HasStructures):
    """Lists and sets for reading and writing."""

    def list(self: Writes, key: Key, *, maxlen: int | None = None) -> List:
        """The list of that key: a durable deque, whose every operation costs O(log n). It comes to be with its first item
        and goes with its last.

        With ``maxlen`` what is written through this handle keeps the list to so many items: what is added at one end
        pushes out at the other, in the same transaction. A key has at most one structure, which the mapping's own value
        of the same key knows nothing of.

        Raises ``InvalidKeyError`` for a key of more than 502 bytes encoded; the methods of the list raise
        ``StructureTypeError`` where the key has a set.
        """
        from kvstore.structures_list import List

        return List(self, key, maxlen)

    def set_of(self: Writes, key: Key) -> Set:
        """The set of that key: durable, in key order, its every operation O(log n). Its members are keys, of at most 502
        bytes encoded. It comes to be with its first member and goes with its last. Otherwise as ``list``.
        """
        from kvstore.structures_set import Set

        return Set(self, key)
