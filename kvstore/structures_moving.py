"""Lists and sets on their way out of a store and into one: a line for the whole, then one for each element."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvstore import codec, elements, keys
from kvstore.backends import Reading, Space, Writing
from kvstore.dump_record import DumpItem, DumpMember, DumpStructure
from kvstore.elements import Head
from kvstore.errors import CorruptRecordError, KvstoreError
from kvstore.structures_base import enter_end, new_head, opened, write_head


def exported(
    view: Reading, namespace: Space, low: bytes, high: bytes, now: float
) -> Iterator[DumpStructure | DumpItem | DumpMember]:
    """The structures of a namespace whose encoded keys are in the range, in key order, each before its elements. ``now`` is
    in milliseconds since the epoch.
    """
    for key, raw in elements.heads(view, namespace, low, high):
        name, head = opened(namespace, key, raw)
        if head.expires is not None and head.expires <= now:
            continue
        yield DumpStructure(namespace, name, head.kind, head.expires)
        for entry in view.scan(elements.SPACE, *head.span):
            try:
                yield _element(head, *entry)
            except ValueError as error:
                raise CorruptRecordError(
                    f"an element of the {head.kind} {name!r} is damaged ({error}); clear it, or restore it from a backup",
                    key=name,
                    namespace=namespace,
                ) from error


def _element(head: Head, key: bytes, raw: bytes) -> DumpItem | DumpMember:
    payload, extended, _ = elements.unpacked(key, raw)
    value = codec.decode_opaque(payload, extended)
    return DumpItem(value) if head.kind == elements.LIST else DumpMember(keys.decode(elements.member_of(key)))


class Incoming:
    """Structures that are being put into a store, each in the place of whatever is under its key, in one transaction.

    ``check_name`` raises for what can't be a namespace's name.
    """

    def __init__(self, txn: Writing, check_name: Callable[[str], object]) -> None:
        self._txn = txn
        self._check_name = check_name
        self._head: Head | None = None
        self._position = 0

    def take(self, item: DumpStructure | DumpItem | DumpMember) -> None:
        """Put the next structure, or the next element of the last one, in.

        Raises ``KvstoreError`` for an element that doesn't belong to what is before it.
        """
        if isinstance(item, DumpStructure):
            self._begin(item)
            return
        head = self._head
        if isinstance(item, DumpItem) and head is not None and head.kind == elements.LIST:
            key = head.at(self._position)
            payload, extended = codec.encode(item.value)
            self._position += 1
        elif isinstance(item, DumpMember) and head is not None and head.kind == elements.SET:
            key = head.prefix + elements.checked("member", item.key)
            payload, extended = codec.encode(None)
            head.count += self._txn.get(elements.SPACE, key) is None
        else:
            raise KvstoreError(f"a {type(item).__name__} can't follow what is before it")
        self._txn.put(elements.SPACE, key, elements.packed(key, payload, extended))

    def _begin(self, structure: DumpStructure) -> None:
        self.finish()
        if structure.namespace:
            self._check_name(structure.namespace)
        encoded = elements.checked("structure's key", structure.key)
        self._head = new_head(self._txn, structure.namespace, encoded, structure.kind, structure.expires)
        self._position = 0

    def finish(self) -> None:
        """The last structure has all its elements."""
        head, self._head = self._head, None
        if head is not None and (self._position or head.count):
            write_head(self._txn, head)
            enter_end(self._txn, head)
