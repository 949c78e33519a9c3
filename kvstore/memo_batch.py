"""Batch functions: from a list, or an array of rows, to a list, or an array of rows; each item with a key of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from kvstore import keys, memo_key
from kvstore.keys import Key
from kvstore.memo_call import Args, Bound, Known, Kwargs, Signature
from kvstore.memo_results import Results, another
from kvstore.missing import MISSING
from kvstore.refusal import Refused

_OWN_NAMES: Final = ("self", "cls")


class BatchFunction:
    """How the calls of a batch function fall apart into items, and its answers into results."""

    def __init__(
        self, function: Callable[..., Any], signature: Signature, results: Results, batch: bool | str, most: int | None
    ) -> None:
        self.results: Final = results
        self.most: Final = most
        self.signature: Final = signature
        self.parameter: Final = _parameter_of_items(signature, batch)
        self._title = signature.title
        self._known = Known()
        self.empty: Any = MISSING
        """What the function gives for an empty batch: MISSING until that is known, from the store or an answer."""

    def key(self, bound: Bound) -> Key:
        """The key of one item, given in the place of the items."""
        item = self.signature.encode_argument(self.parameter, bound[self.parameter])
        return self._key(self._others(bound), item)

    def call(self, bound: Bound) -> BatchCall:
        """A call, taken apart. Raises ``TypeError`` where what was given is no sequence of items."""
        items = self._sequence(bound[self.parameter])
        return BatchCall(self, bound, items, self._encoded_keys(self._others(bound), items))

    def _sequence(self, given: Any) -> Any:
        if type(given) is list or type(given) is tuple or (memo_key.is_array(given) and given.ndim):
            return given
        if not _is_sequence(given):
            raise TypeError(
                f"{self._title}() works on batches: {self.parameter} must be a list, or an array of rows, "
                f"not {type(given).__name__}"
            )
        return list(given)

    # -- the keys of items ---------------------------------------------------------------------------------------

    def _others(self, bound: Bound) -> bytes:
        """What stands for the other arguments."""
        return memo_key.digest(self.signature.encode(bound, without=self.parameter))

    def _key(self, others: bytes, item: bytes) -> tuple[Key, ...]:
        return self.results.name.key(memo_key.digest(others + item))

    def _encoded_keys(self, others: bytes, items: Any) -> list[bytes]:
        if memo_key.is_array(items):
            return [keys.encode(self._key(others, row)) for row in self._rows(items)]
        kind = type(items[0]) if items else None
        # No value of another type equals a str or bytes, so these need not be looked at one by one.
        if kind is str or kind is bytes or (kind is int and set(map(type, items)) == {int}):
            shelf = (others, kind)
            known = self._known.shelves.get(shelf)
            if known is not None:
                try:
                    return list(map(known.__getitem__, items))
                except (KeyError, TypeError):
                    pass
            return [self._known_key(shelf, items, at) for at in range(len(items))]
        return [self._encoded_key(others, items, at) for at in range(len(items))]

    def _known_key(self, shelf: tuple[bytes, type], items: Sequence[Any], at: int) -> bytes:
        item = items[at]
        others, kind = shelf
        if type(item) is not kind:
            return self._encoded_key(others, items, at)
        known = self._known.shelves.get(shelf, {}).get(item)
        if known is None:
            known = self._encoded_key(others, items, at)
            self._known.add(shelf, (item,), item, known)
        return known

    def _encoded_key(self, others: bytes, items: Sequence[Any], at: int) -> bytes:
        return keys.encode(self._key(others, self.signature.encode_argument(self.parameter, items[at], at)))

    def _rows(self, items: Any) -> list[bytes]:
        try:
            return memo_key.encode_rows(items)
        except Refused as refusal:
            raise self.signature.refused(refusal, self.parameter, items) from refusal

    # -- answers -------------------------------------------------------------------------------------------------

    def taken_apart(self, answer: Any, count: int) -> tuple[Sequence[Any], Any]:
        """The results in an answer for so many items, and an empty answer like it."""
        if memo_key.is_array(answer) and answer.ndim:
            results, empty = list(answer), answer[:0].copy()
        elif not _is_sequence(answer):
            raise TypeError(
                f"{self._title}() must return a list, or an array of rows, with a result for each item, "
                f"not {type(answer).__name__}"
            )
        else:
            results, empty = list(answer), []
        if len(results) != count:
            raise ValueError(
                f"{self._title}() returned {len(results)} results for {count} items; "
                "it must return one for each, in their order"
            )
        self.empty = empty
        return results, empty

    def put_together(self, values: list[Any]) -> Any:
        """The answer that has these results, of the kind that the function itself gives: as ``empty`` is."""
        empty = self.empty
        if not memo_key.is_array(empty):
            return values
        if not values:
            return empty.copy()
        stack = sys.modules["numpy"].stack
        dtypes = {value.dtype for value in values}
        dtype = dtypes.pop()
        try:
            if dtypes:
                return stack(values)
            if dtype.newbyteorder("=") == empty.dtype.newbyteorder("="):
                # A number that was a row knows its byte order no more.
                dtype = empty.dtype
            return stack(values, dtype=dtype, casting="equiv")
        except ValueError:
            raise ValueError(
                f"{self._title}() gives rows of different shapes, such as {values[0].shape}, which are no array "
                "together; let it return a list of arrays, or rows that don't depend on what else is in the batch"
            ) from None


class BatchCall:
    """One call of a batch function."""

    def __init__(self, function: BatchFunction, bound: Bound, items: Any, encoded: list[bytes]) -> None:
        self.most: Final = function.most
        self.encoded: Final = encoded
        """The encoded keys of the items, in their order."""
        self._function = function
        self._bound = bound
        self._items = items
        self._places: dict[bytes, int] = {}

    def wanted(self) -> dict[bytes, Key]:
        """The keys of the items, each once, by their encodings and in order."""
        return {encoded: keys.decode(encoded) for encoded in self.encoded}

    def arguments(self, wanted: Sequence[bytes]) -> tuple[Args, Kwargs]:
        """The arguments of the call that computes these."""
        if not self._places:
            for at, encoded in enumerate(self.encoded):
                self._places.setdefault(encoded, at)
        places = [self._places[encoded] for encoded in wanted]
        items = self._items
        some = items[places] if memo_key.is_array(items) else [items[at] for at in places]
        return self._function.signature.call({**self._bound, self._function.parameter: some})

    def results(self, answer: Any, wanted: Sequence[bytes]) -> tuple[Sequence[Any], Any]:
        """A result for each, and what an empty batch would give."""
        return self._function.taken_apart(answer, len(wanted))

    def in_order(self, found: dict[bytes, Any]) -> list[Any]:
        """A result for each item, and no two of them one object that somebody could change."""
        given = set()
        values = []
        for encoded in self.encoded:
            values.append(another(found[encoded]) if encoded in given else found[encoded])
            given.add(encoded)
        return values


def _is_sequence(given: object) -> bool:
    """Whether it has items in an order: neither one text, nor a set, nor an array without an axis."""
    if isinstance(given, str | bytes | bytearray | Mapping | AbstractSet) or getattr(given, "ndim", 1) == 0:
        return False
    return isinstance(given, Iterable)


def _parameter_of_items(signature: Signature, batch: bool | str) -> str:
    if isinstance(batch, str):
        if batch not in signature.plain:
            raise ValueError(f"batch={batch!r} names no parameter of {signature.title} that could take the items")
        return batch
    for name in signature.plain:
        if name not in _OWN_NAMES:
            return name
    raise TypeError(f"{signature.title} has no parameter that could take the items")
