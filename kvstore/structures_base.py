"""What lists and sets have in common: a key, an end in time, and the way to their elements.

A handle keeps nothing of its structure, and the memory tier has nothing of it either: each call reads the file, in one
transaction, so it finds what was committed last, by whatever process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from kvstore import elements, expiry, keys
from kvstore.backends import Reading, Space, Writing
from kvstore.elements import Head
from kvstore.errors import CorruptRecordError, StructureTypeError
from kvstore.keys import Key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Protocol, TypeAlias, TypeVar

    from kvstore.elements import Kind

    R = TypeVar("R")
    Locate: TypeAlias = Callable[[Reading], "tuple[bytes, bytes] | None"]
else:
    Protocol = object


class Reads(Protocol):
    """The part of a readable space that its structures need."""

    _space: Space
    _clock: expiry.Clock

    def _view(self, *also: Space) -> AbstractContextManager[Reading]: ...

    def _walk(self, space: Space, locate: Locate, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]: ...

    def _source(self) -> object: ...


class Writes(Reads, Protocol):
    """The part of a writable space that its structures need."""

    def _commit(self, apply: Callable[[Writing], R]) -> R: ...


class Structure:
    """A list or a set for reading: as it is whenever it is asked."""

    _kind: ClassVar[Kind]

    def __init__(self, space: Reads, key: Key) -> None:
        self._space = space
        self._key = key
        self._encoded = elements.checked("structure's key", key)

    @property
    def key(self) -> Key:
        """The key that it is under."""
        return self._key

    def ttl(self) -> float | None:
        """Seconds until it ends, all of it; None where it has no end. Raises ``KeyError`` where there is nothing."""
        now = self._space._clock()
        with self._space._view(elements.SPACE) as view:
            head = self._head(view)
        if head is None:
            raise KeyError(self._key)
        return None if head.expires is None else head.expires / 1000 - now

    def __repr__(self) -> str:
        return f"<{self._kind} {self._key!r} of {self._space!r}>"

    # -- the way to its elements ---------------------------------------------------------------------------------

    def _head(self, view: Reading) -> Head | None:
        """The head, where there is something and its time isn't over. Raises ``StructureTypeError`` where it is of another
        kind.
        """
        try:
            head = elements.head_at(view, self._space._space, self._encoded)
        except ValueError as error:
            raise self._corrupt("its head", error) from error
        if head is None or (head.expires is not None and head.expires <= self._space._clock() * 1000):
            return None
        if head.kind != self._kind:
            raise StructureTypeError(
                f"the key {self._key!r} has a {head.kind}, not a {self._kind}; use another key, or clear the {head.kind} first"
            )
        return head

    def _span(self, view: Reading) -> tuple[bytes, bytes] | None:
        head = self._head(view)
        return None if head is None else head.span

    def _corrupt(self, what: str, reason: ValueError) -> CorruptRecordError:
        where = f" in namespace {self._space._space!r}" if self._space._space else ""
        return CorruptRecordError(
            f"{what}, of the {self._kind} {self._key!r}{where}, is damaged ({reason}); clear it, or restore it from a backup",
            key=self._key,
            namespace=self._space._space,
        )


class Changeable(Structure):
    """A list or a set that can be written."""

    _space: Writes

    def touch(self, ttl: float | None) -> bool:
        """Let all of it end ``ttl`` seconds from now, or never with None; whether there is something."""
        expires = expiry.deadline(self._space._clock, ttl)

        def apply(txn: Writing) -> bool:
            head = self._head(txn)
            if head is None:
                return False
            head.expires = expires
            write_head(txn, head)
            enter_end(txn, head)
            return True

        return self._space._commit(apply)

    def clear(self) -> None:
        """Remove all of it. The room of a large one comes back by and by, with later commits, or by ``Store.expire``."""

        def apply(txn: Writing) -> None:
            # A damaged one, which is of no kind, is got rid of in this way, too.
            with contextlib.suppress(CorruptRecordError):
                self._head(txn)
            remove(txn, self._space._space, self._encoded)

        return self._space._commit(apply)

    def _head_to_fill(self, txn: Writing) -> tuple[Head, bool]:
        """The head to add to, and whether it is a new one, which is still to be written."""
        head = self._head(txn)
        if head is not None:
            return head, False
        return new_head(txn, self._space._space, self._encoded, self._kind), True


def structures(space: Reads) -> Iterator[tuple[Key, Kind]]:
    """The keys of a space that have a structure, and of what kind it is."""

    def locate(view: Reading) -> tuple[bytes, bytes] | None:
        number = elements.number_of(view, space._space)
        low, high = keys.ALL
        return None if number is None else (elements.head_key(number, low), elements.head_key(number, high))

    for key, raw in space._walk(elements.SPACE, locate, reverse=False):
        name, head = opened(space._space, key, raw)
        if head.expires is None or head.expires > space._clock() * 1000:
            yield name, head.kind


def opened(namespace: Space, key: bytes, raw: bytes) -> tuple[Key, Head]:
    """The key of a structure, and the head that a record is. Raises ``CorruptRecordError``."""
    name: Key = elements.member_of(key)
    try:
        name = keys.decode(elements.member_of(key))
        return name, elements.opened(key, raw)
    except ValueError as error:
        raise CorruptRecordError(
            f"the head of the structure {name!r} is damaged ({error}); clear it, or restore it from a backup",
            key=name,
            namespace=namespace,
        ) from error


def new_head(txn: Writing, namespace: Space, encoded: bytes, kind: Kind, expires: int | None = None) -> Head:
    """The head of a new structure, in the place of whatever is under the key. It is still to be written."""
    remove(txn, namespace, encoded)
    key = elements.head_key(elements.number_for(txn, namespace), encoded)
    return Head(key, kind, elements.next_number(txn), 0, expires)


def write_head(txn: Writing, head: Head) -> None:
    """Put a head into the file."""
    txn.put(elements.SPACE, head.key, head.written())


def enter_end(txn: Writing, head: Head) -> None:
    """Let the structure be found when its time has come."""
    if head.expires is not None:
        expiry.enter(txn, elements.SPACE, head.key, head.expires)


def remove(txn: Writing, namespace: Space, encoded: bytes) -> None:
    """Remove the structure under a key, where there is one, of whatever kind, ended or damaged, and give up its elements."""
    number = elements.number_of(txn, namespace)
    if number is None:
        return
    key = elements.head_key(number, encoded)
    raw = txn.get(elements.SPACE, key)
    if raw is not None:
        for prefix in elements.elements_under(key, raw):
            expiry.give_up(txn, prefix)
        txn.delete(elements.SPACE, key)
