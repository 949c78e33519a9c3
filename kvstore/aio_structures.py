"""Lists and sets for event loops: the methods of those of ``kvstore.Store``, as coroutines.

What reads is done by a thread; what writes is posted to the group commit, as every write of a task is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, SupportsIndex, TypeVar

from kvstore.aio_scan import Scan
from kvstore.keys import Key
from kvstore.structures_base import Structure
from kvstore.structures_list import List as SyncList
from kvstore.structures_list import ReadableList as SyncReadableList
from kvstore.structures_members import ReadableSet as SyncReadableSet
from kvstore.structures_set import Set as SyncSet

if TYPE_CHECKING:
    from kvstore.writing import WritableSpace

R = TypeVar("R")
Read = TypeVar("Read", bound=Structure)


class Reads(Protocol):
    """The part of a face that reading a structure needs."""

    async def _run(self, work: Callable[[], R]) -> R: ...


class Writes(Reads, Protocol):
    """The part of a face that writing a structure needs."""

    async def _write(self, change: Callable[[WritableSpace], R]) -> R: ...


class _Reading(Generic[Read]):
    """A list or a set for reading."""

    def __init__(self, face: Reads, structure: Read) -> None:
        self._face = face
        self._structure = structure

    @property
    def key(self) -> Key:
        """The key that it is under."""
        return self._structure.key

    async def _read(self, look: Callable[[Read], R]) -> R:
        return await self._face._run(lambda: look(self._structure))

    async def ttl(self) -> float | None:
        """Seconds until it ends, all of it; None where it has no end. Raises ``KeyError`` where there is nothing."""
        return await self._read(lambda structure: structure.ttl())

    def __repr__(self) -> str:
        return f"<async {self._structure!r}>"


class ReadableList(_Reading[SyncReadableList]):
    """A list for reading: ``get(index)`` for ``list[index]``, ``count()`` for its length, ``async for`` for its items."""

    async def get(self, index: SupportsIndex | slice) -> Any:
        """The item, or of a slice the items as a list. Raises ``IndexError`` where there is none."""
        return await self._read(lambda items: items[index])

    async def count(self) -> int:
        """How many items there are."""
        return await self._read(len)

    def scan(self, *, reverse: bool = False) -> Scan[Any]:
        """``async for item in ...``, in order or in reverse, over one consistent view."""
        return Scan(reversed(self._structure) if reverse else iter(self._structure), self._face._run)

    def __aiter__(self) -> Scan[Any]:
        return self.scan()


class List(ReadableList):
    """A list in the file: a deque that survives. A change is durable, or will be with its transaction, when its coroutine
    returns.
    """

    _face: Writes
    _structure: SyncList

    async def _change(self, change: Callable[[SyncList], R]) -> R:
        key, maxlen = self._structure.key, self._structure.maxlen
        return await self._face._write(lambda space: change(space.list(key, maxlen=maxlen)))

    @property
    def maxlen(self) -> int | None:
        """How many items this handle keeps the list to, when it adds some; None for any number."""
        return self._structure.maxlen

    async def append(self, value: Any) -> None:
        """Add an item at the end."""
        return await self._change(lambda items: items.append(value))

    async def appendleft(self, value: Any) -> None:
        """Add an item at the beginning."""
        return await self._change(lambda items: items.appendleft(value))

    async def extend(self, values: Iterable[Any]) -> None:
        """Add items at the end, in one transaction."""
        return await self._change(lambda items: items.extend(values))

    async def extendleft(self, values: Iterable[Any]) -> None:
        """Add items at the beginning, one after another, so that the last one comes first; in one transaction."""
        return await self._change(lambda items: items.extendleft(values))

    async def pop(self) -> Any:
        """Remove the last item and return it. Raises ``IndexError`` where there is none."""
        return await self._change(lambda items: items.pop())

    async def popleft(self) -> Any:
        """Remove the first item and return it. Raises ``IndexError`` where there is none."""
        return await self._change(lambda items: items.popleft())

    async def replace(self, index: SupportsIndex, value: Any) -> None:
        """Put another item in the place of one. Raises ``IndexError`` where there is none."""
        return await self._change(lambda items: items.replace(index, value))

    async def touch(self, ttl: float | None) -> bool:
        """Let all of it end ``ttl`` seconds from now, or never with None; whether there is something."""
        return await self._change(lambda items: items.touch(ttl))

    async def clear(self) -> None:
        """Remove all of it."""
        return await self._change(lambda items: items.clear())


class ReadableSet(_Reading[SyncReadableSet]):
    """A set for reading: ``contains(member)`` for ``in``, ``count()`` for its length, ``async for`` for its members."""

    async def contains(self, member: object) -> bool:
        """Whether it is in the set."""
        return await self._read(lambda members: member in members)

    async def count(self) -> int:
        """How many members there are."""
        return await self._read(len)

    def scan(self, *, reverse: bool = False) -> Scan[Key]:
        """``async for member in ...``, in key order or in reverse, over one consistent view."""
        return Scan(reversed(self._structure) if reverse else iter(self._structure), self._face._run)

    def __aiter__(self) -> Scan[Key]:
        return self.scan()

    async def union(self, *others: Iterable[Any] | ReadableSet) -> set[Any]:
        """What is in this set or in any of the others."""
        return await self._read(lambda members: members.union(*_known(others)))

    async def intersection(self, *others: Iterable[Any] | ReadableSet) -> set[Any]:
        """What is in this set and in all of the others."""
        return await self._read(lambda members: members.intersection(*_known(others)))

    async def difference(self, *others: Iterable[Any] | ReadableSet) -> set[Any]:
        """What is in this set and in none of the others."""
        return await self._read(lambda members: members.difference(*_known(others)))

    async def symmetric_difference(self, other: Iterable[Any] | ReadableSet) -> set[Any]:
        """What is in one of the two."""
        return await self._read(lambda members: members.symmetric_difference(*_known((other,))))

    async def isdisjoint(self, other: Iterable[Any] | ReadableSet) -> bool:
        """Whether nothing is in both."""
        return await self._read(lambda members: members.isdisjoint(*_known((other,))))

    async def issubset(self, other: Iterable[Any] | ReadableSet) -> bool:
        """Whether all that is in this set is in the other."""
        return await self._read(lambda members: members.issubset(*_known((other,))))

    async def issuperset(self, other: Iterable[Any] | ReadableSet) -> bool:
        """Whether all that is in the other is in this set."""
        return await self._read(lambda members: members.issuperset(*_known((other,))))


class Set(ReadableSet):
    """A set in the file. A change is durable, or will be with its transaction, when its coroutine returns."""

    _face: Writes

    async def _change(self, change: Callable[[SyncSet], R]) -> R:
        key = self._structure.key
        return await self._face._write(lambda space: change(space.set_of(key)))

    async def add(self, member: Key) -> bool:
        """Put a member in; whether it was not there before."""
        return await self._change(lambda members: members.add(member))

    async def discard(self, member: Key) -> bool:
        """Take a member out; whether it was there."""
        return await self._change(lambda members: members.discard(member))

    async def remove(self, member: Key) -> None:
        """Take a member out. Raises ``KeyError`` where it isn't there."""
        return await self._change(lambda members: members.remove(member))

    async def pop(self) -> Key:
        """Take the first member in key order out, and return it. Raises ``KeyError`` where there is none."""
        return await self._change(lambda members: members.pop())

    async def update(self, *others: Iterable[Key] | ReadableSet) -> None:
        """Put in all that is in the others, in one transaction."""
        return await self._change(lambda members: members.update(*_known(others)))

    async def difference_update(self, *others: Iterable[Any] | ReadableSet) -> None:
        """Take out all that is in any of the others, in one transaction."""
        return await self._change(lambda members: members.difference_update(*_known(others)))

    async def intersection_update(self, *others: Iterable[Any] | ReadableSet) -> None:
        """Take out all that is not in every one of the others, in one transaction."""
        return await self._change(lambda members: members.intersection_update(*_known(others)))

    async def symmetric_difference_update(self, other: Iterable[Key] | ReadableSet) -> None:
        """Put in what is in the other alone, and take out what is in both, in one transaction."""
        return await self._change(lambda members: members.symmetric_difference_update(*_known((other,))))

    async def touch(self, ttl: float | None) -> bool:
        """Let all of it end ``ttl`` seconds from now, or never with None; whether there is something."""
        return await self._change(lambda members: members.touch(ttl))

    async def clear(self) -> None:
        """Remove all of it."""
        return await self._change(lambda members: members.clear())


def _known(others: Iterable[Iterable[Any] | ReadableSet]) -> list[Iterable[Any]]:
    return [other._structure if isinstance(other, ReadableSet) else other for other in others]
