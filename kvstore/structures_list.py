"""A list in the file, as a deque: it grows and shrinks at its ends, and is read and replaced anywhere."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from kvstore import codec, elements
from kvstore.backends import Reading, Writing
from kvstore.elements import Head
from kvstore.structures_base import Changeable, Structure, write_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn, Self, SupportsIndex, overload

    from kvstore.keys import Key
    from kvstore.structures_base import Writes

_FARTHEST: Final = 1 << 62


class ReadableList(Structure, Sequence["Any"]):
    """A list for reading. Iterating it reads one consistent view; ``in``, ``index`` and ``count`` iterate."""

    _kind = elements.LIST

    def __len__(self) -> int:
        with self._space._view(elements.SPACE) as view:
            ends = self._ends(view)
        return 0 if ends is None else ends[2] - ends[1] + 1

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: SupportsIndex) -> Any: ...
        @overload
        def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """The item, or of a slice the items as a list. Raises ``IndexError`` where there is none."""
        if isinstance(index, slice):
            return self._slice(index)
        with self._space._view(elements.SPACE) as view:
            head = self._head(view)
            found = None if head is None else self._find(view, head, operator.index(index))
            if found is None:
                raise IndexError("list index out of range")
            return self._value(*found)

    def _slice(self, wanted: slice) -> list[Any]:
        with self._space._view(elements.SPACE) as view:
            indices, entries = self._within(view, wanted)
            items = [self._value(*entry) for entry in itertools.islice(entries, None, None, abs(indices.step))]
        return items if indices.step > 0 else items[::-1]

    def __iter__(self) -> Iterator[Any]:
        return itertools.starmap(self._value, self._space._walk(elements.SPACE, self._span, reverse=False))

    def __reversed__(self) -> Iterator[Any]:
        return itertools.starmap(self._value, self._space._walk(elements.SPACE, self._span, reverse=True))

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """The first index, within the bounds, of an item that equals the value. Raises ``ValueError`` where there is
        none.
        """
        # Not as inherited, which would look every item up anew, each at another moment.
        with self._space._view(elements.SPACE) as view:
            indices, entries = self._within(view, slice(start, stop))
            for index, entry in zip(indices, entries, strict=False):
                item = self._value(*entry)
                if item is value or item == value:
                    return index
        raise ValueError("the value is not in the list")

    def __eq__(self, other: object) -> bool:
        """Whether another list, stored or not, or a deque has equal items in the same order."""
        if not isinstance(other, ReadableList | list | deque):
            return NotImplemented
        ended = object()
        pairs = itertools.zip_longest(self, other, fillvalue=ended)
        return all(one is not ended and two is not ended and (one is two or one == two) for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]  # as of any list

    # -- positions -----------------------------------------------------------------------------------------------

    def _ends(self, view: Reading) -> tuple[Head, int, int] | None:
        """The head, and the positions of the first item and the last."""
        head = self._head(view)
        first = None if head is None else self._end(view, head, last=False)
        last = None if head is None else self._end(view, head, last=True)
        return None if head is None or first is None or last is None else (head, first, last)

    def _end(self, view: Reading, head: Head, *, last: bool) -> int | None:
        key = view.first_key(elements.SPACE, *head.span, reverse=last)
        if key is None:
            return None
        try:
            return elements.position_of(key)
        except ValueError as error:
            raise self._corrupt("an item", error) from error

    def _within(self, view: Reading, wanted: slice) -> tuple[range, Iterator[tuple[bytes, bytes]]]:
        """The indices that a slice means, and all the entries from the least of them to the greatest."""
        ends = self._ends(view)
        if ends is None:
            return range(*wanted.indices(0)), iter(())
        head, first, last = ends
        indices = range(*wanted.indices(last - first + 1))
        if not indices:
            return indices, iter(())
        low, high = sorted((first + indices[0], first + indices[-1]))
        return indices, view.scan(elements.SPACE, head.at(low), head.at(high + 1))

    def _find(self, view: Reading, head: Head, index: int) -> tuple[bytes, bytes] | None:
        """Key and record of the item at an index, which counts from the end where it is negative."""
        end = self._end(view, head, last=index < 0)
        if end is None or abs(index) > _FARTHEST:
            return None
        key = head.at(end + index + (index < 0))
        raw = view.get(elements.SPACE, key)
        return None if raw is None else (key, raw)

    def _value(self, key: bytes, raw: bytes) -> Any:
        try:
            return elements.value_of(key, raw)
        except ValueError as error:
            raise self._corrupt("an item", error) from error


class List(ReadableList, Changeable):
    """A list in the file: a deque that survives. Made by ``list`` of a store, a namespace or a transaction.

    Each method is atomic, across threads and processes, and durable when it returns. Values are what a store takes.
    """

    def __init__(self, space: Writes, key: Key, maxlen: int | None = None) -> None:
        super().__init__(space, key)
        if maxlen is not None:
            if type(maxlen) is not int:
                raise TypeError(f"maxlen must be an int or None, not {type(maxlen).__name__}")
            if maxlen < 1:
                raise ValueError(f"maxlen must be at least 1, not {maxlen}; None is for a list without a bound")
        self._maxlen = maxlen

    @property
    def maxlen(self) -> int | None:
        """How many items this handle keeps the list to, when it adds some; None for any number."""
        return self._maxlen

    def append(self, value: Any) -> None:
        """Add an item at the end. Raises ``UnstorableValueError`` (before anything is written), ``StoreFullError``."""
        return self._add((value,), self._put_right)

    def appendleft(self, value: Any) -> None:
        """Add an item at the beginning. Raises as ``append``."""
        return self._add((value,), self._put_left)

    def extend(self, values: Iterable[Any]) -> None:
        """Add items at the end, in one transaction: all of them, or none. Raises as ``append``."""
        return self._add(values, self._put_right)

    def extendleft(self, values: Iterable[Any]) -> None:
        """Add items at the beginning, one after another, so that the last one comes first; in one transaction. Raises as
        ``append``.
        """
        return self._add(values, self._put_left)

    def __iadd__(self, values: Iterable[Any]) -> Self:
        self.extend(values)
        return self

    def pop(self) -> Any:
        """Remove the last item and return it. Raises ``IndexError`` where there is none."""
        return self._take(last=True)

    def popleft(self) -> Any:
        """Remove the first item and return it. Raises ``IndexError`` where there is none."""
        return self._take(last=False)

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        if isinstance(index, slice):
            raise TypeError("a slice of a stored list can't be assigned to; assign to its items, in one transaction")
        self.replace(index, value)

    def replace(self, index: SupportsIndex, value: Any) -> None:
        """Put another item in the place of one: what ``list[index] = value`` does. Raises ``IndexError`` where there is
        none, otherwise as ``append``.
        """
        number = operator.index(index)
        payload, extended = codec.encode(value)

        def apply(txn: Writing) -> None:
            head = self._head(txn)
            found = None if head is None else self._find(txn, head, number)
            if found is None:
                raise IndexError("list assignment index out of range")
            key, _ = found
            txn.put(elements.SPACE, key, elements.packed(key, payload, extended))

        return self._space._commit(apply)

    def __delitem__(self, index: object) -> NoReturn:
        raise TypeError(
            "an item in the middle of a stored list can't be removed, since every one behind it would have to move; "
            "pop() and popleft() remove at the ends, and a set_of(key) any member"
        )

    def insert(self, index: object, value: object) -> NoReturn:
        """Raises ``TypeError``: every item behind it would have to move."""
        raise TypeError(
            "a stored list can't be inserted into, since every item behind would have to move; append() and appendleft() "
            "add at the ends"
        )

    # -- at the ends ---------------------------------------------------------------------------------------------

    def _add(self, values: Iterable[Any], put: Callable[[Writing, Head, list[tuple[bytes, bool]]], None]) -> None:
        payloads = [codec.encode(value) for value in values]
        if self._maxlen is not None:
            del payloads[: -self._maxlen]
        if not payloads:
            return None

        def apply(txn: Writing) -> None:
            head, is_new = self._head_to_fill(txn)
            if is_new:
                write_head(txn, head)
            put(txn, head, payloads)

        return self._space._commit(apply)

    def _put_right(self, txn: Writing, head: Head, payloads: list[tuple[bytes, bool]]) -> None:
        last = self._end(txn, head, last=True)
        start = 0 if last is None else last + 1
        stop = start + len(payloads)
        if self._maxlen is not None:
            first = self._end(txn, head, last=False)
            self._drop(txn, head, range(start if first is None else first, stop - self._maxlen))
        self._put(txn, head, range(start, stop), payloads)

    def _put_left(self, txn: Writing, head: Head, payloads: list[tuple[bytes, bool]]) -> None:
        first = self._end(txn, head, last=False)
        start = -1 if first is None else first - 1
        stop = start - len(payloads)
        if self._maxlen is not None:
            last = self._end(txn, head, last=True)
            self._drop(txn, head, range(stop + self._maxlen + 1, start + 1 if last is None else last + 1))
        self._put(txn, head, range(start, stop, -1), payloads)

    def _put(self, txn: Writing, head: Head, positions: range, payloads: list[tuple[bytes, bool]]) -> None:
        records = []
        for position, (payload, extended) in zip(positions, payloads, strict=True):
            key = head.at(position)
            records.append((key, elements.packed(key, payload, extended), None))
        txn.put_all(elements.SPACE, records)

    def _drop(self, txn: Writing, head: Head, positions: range) -> None:
        for position in positions:
            txn.delete(elements.SPACE, head.at(position))

    def _take(self, *, last: bool) -> Any:
        def apply(txn: Writing) -> Any:
            head = self._head(txn)
            found = None if head is None else self._find(txn, head, -1 if last else 0)
            if head is None or found is None:
                raise IndexError("pop from an empty list")
            key, raw = found
            value = self._value(key, raw)
            txn.delete(elements.SPACE, key)
            if self._end(txn, head, last=last) is None:
                txn.delete(elements.SPACE, head.key)
            return value

        return self._space._commit(apply)
