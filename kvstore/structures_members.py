"""A set of keys for reading: in key order, and beside other sets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from kvstore import elements, keys
from kvstore.backends import Reading
from kvstore.keys import Key
from kvstore.structures_base import Structure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Other: TypeAlias = Iterable[Any]


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
        encoded = keys.encode_lookup(member)
        if encoded is None or self._head is None or len(encoded) > elements.MAX_BYTES:
            return False
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
        with self._space._view(elements.SPACE) as view:
            return member in Members(self, view)

    def __len__(self) -> int:
        with self._space._view(elements.SPACE) as view:
            return len(Members(self, view))

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
                found = common(found, other)
            return set(found)

    def difference(self, *others: Other) -> set[Any]:
        """What is in this set and in none of the others."""
        with self._beside(others) as (mine, theirs):
            return {member for member in mine if not any(member in other for other in theirs)}

    def symmetric_difference(self, other: Other) -> set[Any]:
        """What is in one of the two."""
        with self._beside((other,)) as (mine, (theirs,)):
            both = common(mine, theirs)
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
        with self._beside((other,)) as (mine, (theirs,)):
            return {member for member in theirs if member not in mine}

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
    def _beside(self, others: Iterable[Other]) -> Iterator[tuple[Members, list[AbstractSet[Any]]]]:
        """This set and the others: those of the same store as they are in one view."""
        known = [self._known(other) for other in others]
        with self._space._view(elements.SPACE) as view:
            yield Members(self, view), [seen(other, view) for other in known]

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


def can_be_in(member: object) -> bool:
    """Whether it is something that a set can have. Raises ``TypeError`` for what is unhashable, as a set does."""
    encoded = keys.encode_lookup(member)
    return encoded is not None and len(encoded) <= elements.MAX_BYTES


def seen(other: ReadableSet | set[Any], view: Reading) -> AbstractSet[Any]:
    """A stored set as it is in the view, any other as it is."""
    return Members(other, view) if isinstance(other, ReadableSet) else other


def common(one: AbstractSet[Any], other: AbstractSet[Any]) -> set[Any]:
    """What is in both, at the cost of one look-up for each member of the smaller one."""
    small, large = sorted((one, other), key=len)
    return {member for member in small if member in large}
