"""A set of keys in the file: what changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from kvstore import codec, elements, keys
from kvstore.backends import Writing
from kvstore.keys import Key
from kvstore.structures_base import Changeable, write_head
from kvstore.structures_members import Members, ReadableSet, can_be_in, common, seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self

    from kvstore.structures_members import Other

_NIL: Final = codec.encode(None)


class Set(ReadableSet, Changeable):
    """A set in the file. Made by ``set_of`` of a store, a namespace or a transaction.

    Each method is atomic, across threads and processes, and durable when it returns. Members are keys: str, bytes, int and
    tuples of them, at most 502 bytes encoded.
    """

    def add(self, member: Key) -> bool:
        """Put a member in; whether it was not there before. Raises ``InvalidKeyError``, ``StoreFullError``."""
        elements.checked("member", member)
        return self._space._commit(lambda txn: self._put(txn, (member,)) == 1)

    def discard(self, member: Key) -> bool:
        """Take a member out; whether it was there."""
        if not can_be_in(member):
            return False
        return self._space._commit(lambda txn: self._drop(txn, (member,)) == 1)

    def remove(self, member: Key) -> None:
        """Take a member out. Raises ``KeyError`` where it isn't there."""
        if not can_be_in(member):
            raise KeyError(member)

        def apply(txn: Writing) -> None:
            if not self._drop(txn, (member,)):
                raise KeyError(member)

        return self._space._commit(apply)

    def pop(self) -> Key:
        """Take the first member in key order out, and return it. Raises ``KeyError`` where there is none."""

        def apply(txn: Writing) -> Key:
            span = self._span(txn)
            first = None if span is None else next(txn.scan(elements.SPACE, *span), None)
            if first is None:
                raise KeyError("pop from an empty set")
            member = self._member(*first)
            self._drop(txn, (member,))
            return member

        return self._space._commit(apply)

    # -- many members --------------------------------------------------------------------------------------------

    def update(self, *others: Iterable[Key]) -> None:
        """Put in all that is in the others, in one transaction: all of it, or nothing. Raises as ``add``."""
        known = [self._storable(other) for other in others]

        def apply(txn: Writing) -> None:
            for other in known:
                self._put(txn, list(seen(other, txn)))

        return self._space._commit(apply)

    def difference_update(self, *others: Other) -> None:
        """Take out all that is in any of the others, in one transaction."""
        known = [self._known(other) for other in others]

        def apply(txn: Writing) -> None:
            for other in known:
                self._drop(txn, common(Members(self, txn), seen(other, txn)))

        return self._space._commit(apply)

    def intersection_update(self, *others: Other) -> None:
        """Take out all that is not in every one of the others, in one transaction."""
        known = [self._known(other) for other in others]

        def apply(txn: Writing) -> None:
            theirs = [seen(other, txn) for other in known]
            self._drop(txn, [m for m in Members(self, txn) if not all(m in other for other in theirs)])

        return self._space._commit(apply)

    def symmetric_difference_update(self, other: Iterable[Key]) -> None:
        """Put in what is in the other alone, and take out what is in both, in one transaction. Raises as ``add``."""
        known = self._storable(other)

        def apply(txn: Writing) -> None:
            mine, theirs = Members(self, txn), seen(known, txn)
            both = common(mine, theirs)
            new = [member for member in theirs if member not in both]
            self._drop(txn, both)
            self._put(txn, new)

        return self._space._commit(apply)

    def __ior__(self, other: object) -> Self:  # type: ignore[override]  # as every mutable set has it
        return self._after(self.update, other)

    def __isub__(self, other: object) -> Self:  # type: ignore[override]
        return self._after(self.difference_update, other)

    def __iand__(self, other: object) -> Self:  # type: ignore[override]
        return self._after(self.intersection_update, other)

    def __ixor__(self, other: object) -> Self:  # type: ignore[override]
        return self._after(self.symmetric_difference_update, other)

    def _after(self, change: Callable[[AbstractSet[Any]], None], other: object) -> Self:
        if not isinstance(other, AbstractSet):
            return NotImplemented  # type: ignore[no-any-return]
        change(other)
        return self

    def _storable(self, other: Iterable[Key]) -> ReadableSet | set[Any]:
        known = self._known(other)
        if isinstance(known, set):
            for member in known:
                elements.checked("member", member)
        return known

    # -- in a transaction ----------------------------------------------------------------------------------------

    def _put(self, txn: Writing, members: Iterable[Key]) -> int:
        """Put members in; how many were not there before."""
        head, new = None, 0
        for member in members:
            if head is None:
                head, _ = self._head_to_fill(txn)
            key = head.prefix + keys.encode(member)
            if txn.get(elements.SPACE, key) is None:
                txn.put(elements.SPACE, key, elements.packed(key, *_NIL))
                new += 1
        if head is not None and new:
            head.count += new
            write_head(txn, head)
        return new

    def _drop(self, txn: Writing, members: Iterable[Key]) -> int:
        """Take members out; how many were there."""
        head = self._head(txn)
        if head is None:
            return 0
        gone = sum(txn.delete(elements.SPACE, head.prefix + keys.encode(member)) for member in members)
        head.count -= gone
        if gone and not head.count:
            txn.delete(elements.SPACE, head.key)
        elif gone:
            txn.put_freeing(elements.SPACE, head.key, head.written())
        return gone
