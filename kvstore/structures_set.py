"""A set of keys in the file, in key order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from kvstore import codec, elements, keys
from kvstore.backends import Reading, Writing
from kvstore.keys import Key
from kvstore.structures_base import Changeable, Structure, write_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self, TypeAlias

    Other: TypeAlias = Iterable[Any]
    Decide: TypeAlias = "Callable[[Members, AbstractSet[Any]], tuple[Iterable[Key], Iterable[Key]]]"

_NIL: Final = codec.encode(None)


class Members(AbstractSet[Key]):
    """A set as it is in one view, for as long as that lasts; what the operators make of it is a ``set``."""

    def __init__(self, of: ReadableSet, view: Reading) -> None:
        self._of = of
        self._view = view
        self._head = of._head(view)

    @classmethod
    def _from_iterable(cls, members: Iterable[Any]) -> set[Any]:
        return set(members)

    def __contains__(self, member: object) -> bool:
        if self._head is None or not _can_be_in(member):
            return False
        encoded = keys.encode(member)  # type: ignore[arg-type]  # it can be in
        return self._view.get(elements.SPACE, self._head.prefix + encoded) is not None

    def __iter__(self) -> Iterator[Key]:
        if self._head is not None:
            for entry in self._view.scan(elements.SPACE, *self._head.span):
                yield self._of._member(*entry)

    def __len__(self) -> int:
        return 0 if self._head is None else self._head.count


class ReadableSet(Structure, AbstractSet[Key]):
    """A set for reading. Iterating it reads one consistent view, in key order; so does each operator, of this set and, where
    the other is of the same store, of both. The result is a ``set``.
    """

    _kind = elements.SET

    def __contains__(self, member: object) -> bool:
        with self._members() as mine:
            return member in mine

    def __len__(self) -> int:
        with self._members() as mine:
            return len(mine)

    def __iter__(self) -> Iterator[Key]:
        return (self._member(*entry) for entry in self._space._walk(elements.SPACE, self._span, reverse=False))

    def __reversed__(self) -> Iterator[Key]:
        return (self._member(*entry) for entry in self._space._walk(elements.SPACE, self._span, reverse=True))

    # -- with another set ----------------------------------------------------------------------------------------

    def union(self, *others: Other) -> set[Any]:
        """What is in this set or in any of the others."""
        with self._beside(others) as (mine, theirs):
            return set(mine).union(*theirs)

    def intersection(self, *others: Other) -> set[Any]:
        """What is in this set and in all of the others. Costs one look-up for each member of the smaller of two sets."""
        with self._beside(others) as (mine, theirs):
            found: AbstractSet[Any] = mine
            for other in theirs:
                found = _common(found, other)
            return set(found)

    def difference(self, *others: Other) -> set[Any]:
        """What is in this set and in none of the others."""
        with self._beside(others) as (mine, theirs):
            return {member for member in mine if not any(member in other for other in theirs)}

    def symmetric_difference(self, other: Other) -> set[Any]:
        """What is in one of the two."""
        with self._beside((other,)) as (mine, (theirs,)):
            both = _common(mine, theirs)
            return {member for each in (mine, theirs) for member in each if member not in both}

    def isdisjoint(self, other: Other) -> bool:
        """Whether nothing is in both."""
        with self._beside((other,)) as (mine, (theirs,)):
            small, large = sorted((mine, theirs), key=len)
            return not any(member in large for member in small)

    def issubset(self, other: Other) -> bool:
        """Whether all that is in this set is in the other."""
        with self._beside((other,)) as (mine, (theirs,)):
            return mine <= theirs

    def issuperset(self, other: Other) -> bool:
        """Whether all that is in the other is in this set."""
        with self._beside((other,)) as (mine, (theirs,)):
            return mine >= theirs

    def __or__(self, other: object) -> set[Any]:
        return self.union(other) if isinstance(other, AbstractSet) else NotImplemented

    def __and__(self, other: object) -> set[Any]:
        return self.intersection(other) if isinstance(other, AbstractSet) else NotImplemented

    def __sub__(self, other: object) -> set[Any]:
        return self.difference(other) if isinstance(other, AbstractSet) else NotImplemented

    def __xor__(self, other: object) -> set[Any]:
        return self.symmetric_difference(other) if isinstance(other, AbstractSet) else NotImplemented

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

    def __rsub__(self, other: object) -> set[Any]:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        with self._members() as mine:
            return {member for member in other if member not in mine}

    def __le__(self, other: object) -> bool:
        return self.issubset(other) if isinstance(other, AbstractSet) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.issuperset(other) if isinstance(other, AbstractSet) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._compared(other, lambda mine, theirs: mine < theirs)

    def __gt__(self, other: object) -> bool:
        return self._compared(other, lambda mine, theirs: mine > theirs)

    def __eq__(self, other: object) -> bool:
        return self._compared(other, lambda mine, theirs: mine == theirs)

    __hash__ = None  # type: ignore[assignment]  # as of any set that changes

    def _compared(self, other: object, compare: Callable[[Members, AbstractSet[Any]], bool]) -> bool:
        if not isinstance(other, AbstractSet):
            return NotImplemented  # type: ignore[no-any-return]  # as an operator may
        with self._beside((other,)) as (mine, (theirs,)):
            return compare(mine, theirs)

    # -- in one view ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _members(self) -> Iterator[Members]:
        with self._space._view(elements.SPACE) as view:
            yield Members(self, view)

    @contextlib.contextmanager
    def _beside(self, others: Iterable[Other]) -> Iterator[tuple[Members, list[AbstractSet[Any]]]]:
        """This set and the others: those of the same store as they are in one view."""
        known = [self._known(other) for other in others]
        with self._space._view(elements.SPACE) as view:
            yield Members(self, view), [_seen(other, view) for other in known]

    def _known(self, other: Other) -> ReadableSet | set[Any]:
        """A set of the same store itself, of anything else what is in it now."""
        if isinstance(other, ReadableSet) and other._space._source() is self._space._source():
            return other
        return set(other)

    def _member(self, key: bytes, raw: bytes) -> Key:
        try:
            elements.value_of(key, raw)
            return keys.decode(elements.member_of(key))
        except ValueError as error:
            raise self._corrupt("a member", error) from error


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
        if not _can_be_in(member):
            return False
        return self._space._commit(lambda txn: self._drop(txn, (member,)) == 1)

    def remove(self, member: Key) -> None:
        """Take a member out. Raises ``KeyError`` where it isn't there."""
        if not _can_be_in(member):
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
                self._put(txn, list(_seen(other, txn)))

        return self._space._commit(apply)

    def difference_update(self, *others: Other) -> None:
        """Take out all that is in any of the others, in one transaction."""
        known = [self._known(other) for other in others]

        def apply(txn: Writing) -> None:
            for other in known:
                self._drop(txn, _common(Members(self, txn), _seen(other, txn)))

        return self._space._commit(apply)

    def intersection_update(self, *others: Other) -> None:
        """Take out all that is not in every one of the others, in one transaction."""
        known = [self._known(other) for other in others]

        def apply(txn: Writing) -> None:
            theirs = [_seen(other, txn) for other in known]
            self._drop(txn, [m for m in Members(self, txn) if not all(m in other for other in theirs)])

        return self._space._commit(apply)

    def symmetric_difference_update(self, other: Iterable[Key]) -> None:
        """Put in what is in the other alone, and take out what is in both, in one transaction. Raises as ``add``."""
        known = self._storable(other)

        def apply(txn: Writing) -> None:
            mine, theirs = Members(self, txn), _seen(known, txn)
            both = _common(mine, theirs)
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


def _can_be_in(member: object) -> bool:
    """Whether it is something that a set can have. Raises ``TypeError`` for what is unhashable, as a set does."""
    encoded = keys.encode_lookup(member)
    return encoded is not None and len(encoded) <= elements.MAX_BYTES


def _seen(other: ReadableSet | set[Any], view: Reading) -> AbstractSet[Any]:
    return Members(other, view) if isinstance(other, ReadableSet) else other


def _common(one: AbstractSet[Any], other: AbstractSet[Any]) -> set[Any]:
    """What is in both, at the cost of one look-up for each member of the smaller one."""
    small, large = sorted((one, other), key=len)
    return {member for member in small if member in large}
