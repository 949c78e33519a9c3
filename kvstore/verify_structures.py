"""Checking lists and sets: each head and element, and that nothing is missing or left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvstore import codec, elements, expiry, keys
from kvstore.backends import Reading
from kvstore.elements import Head
from kvstore.errors import CorruptRecordError, UnknownTypeError
from kvstore.verify_report import Problem


def structure_problems(view: Reading, passed: Callable[[], object]) -> Iterator[Problem]:
    """Everything that is wrong with the lists and sets of a store. ``passed`` is called after each element."""
    names = {bytes(8): ""}
    for name, key, raw in elements.directory(view):
        try:
            names[elements.number_in(key, raw).to_bytes(8, "big")] = name
        except CorruptRecordError as error:
            yield Problem("record", name, None, str(error))
    owned = sum(elements.count_elements(view, prefix) for prefix in expiry.given_up(view))
    for number, key, raw in elements.all_heads(view):
        try:
            head = elements.opened(key, raw)
        except ValueError as error:
            yield Problem("record", names.get(number, ""), _key(key), f"the head of a list or set: {error}")
            continue
        if number in names:
            check = _Check(view, head, names[number])
            yield from check.problems(passed)
            owned += check.count
        else:
            # Of a namespace that was dropped, and is being freed.
            owned += elements.count_elements(view, head.prefix)
    left = elements.count_elements(view) - owned
    if left:
        yield Problem(
            "record", "", None, f"{left} elements belong to no list or set; a dump and a load leave them behind"
        )


def _key(head: bytes) -> object:
    try:
        return keys.decode(elements.member_of(head))
    except ValueError:
        return elements.member_of(head)


class _Check:
    """One structure and its elements, of which ``count`` were seen."""

    def __init__(self, view: Reading, head: Head, namespace: str) -> None:
        self._view = view
        self._head = head
        self._namespace = namespace
        self.count = 0

    def problems(self, passed: Callable[[], object]) -> Iterator[Problem]:
        head = self._head
        if head.expires is not None and not expiry.is_entered(self._view, elements.SPACE, head.key, head.expires):
            yield self._problem("expiry", f"the {head.kind} ends, but the index doesn't know when; touch it")
        gaps, previous = 0, None
        for key, raw in self._view.scan(elements.SPACE, *head.span):
            self.count += 1
            try:
                payload, extended, _ = elements.unpacked(key, raw)
                codec.decode_opaque(payload, extended)
                if head.kind == elements.SET:
                    keys.decode(elements.member_of(key))
                else:
                    position = elements.position_of(key)
                    gaps += previous is not None and position != previous + 1
                    previous = position
            except (ValueError, UnknownTypeError) as error:
                yield self._problem("record", f"element {self.count - 1} of the {head.kind}: {error}")
            passed()
        if gaps or not self.count:
            yield self._problem(
                "record", f"items of the list are missing, in {gaps} places" if gaps else "it has no elements"
            )
        if head.kind == elements.SET and self.count != head.count:
            yield self._problem("record", f"the set has {self.count} members, and says that it has {head.count}")

    def _problem(self, kind: str, message: str) -> Problem:
        return Problem(kind, self._namespace, _key(self._head.key), message)
