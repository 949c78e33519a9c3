"""Refusing a value: the reason, and where inside the whole it applies."""

from __future__ import annotations

from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST_LABEL = 40
_MOST_STEPS = 20


class Refused(Exception):  # noqa: N818  # a reason on its way to an UnstorableValueError; no caller sees it
    """Why a part of a value can't be stored. On the way up it gathers its place, from the inside outwards."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.trail: list[object] = []


def full_name(kind: type) -> str:
    """A type as its module and name, or the name alone of a built-in one."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def path_to(trail: Sequence[object]) -> str:
    """Where the last object of a trail is, in terms of the first: ``value["a"][3]``.

    Each object of the trail directly contains the next one.
    """
    steps = [_step(outer, inner) for outer, inner in pairwise(trail)]
    if len(steps) > _MOST_STEPS:
        steps[_MOST_STEPS // 2 : -_MOST_STEPS // 2] = [" ... "]
    return "value" + "".join(steps)


def _step(outer: object, inner: object) -> str:
    """Found by identity: the same object in another place is as good a place."""
    if type(outer) is dict:
        for key, item in outer.items():
            if item is inner:
                return f"[{_label(key)}]"
        return f".key({_label(inner)})"
    if type(outer) is list or type(outer) is tuple:
        for index, item in enumerate(outer):
            if item is inner:
                return f"[{index}]"
    if type(outer) is set or type(outer) is frozenset:
        return f".member({_label(inner)})"
    return ".stored_form"


def _label(item: object) -> str:
    """A short name of a key or member; the repr of foreign types is not called."""
    if type(item) is str and '"' not in item and item.isprintable():
        label = f'"{item}"'
    elif type(item) in {str, bytes, bool, float, type(None)} or (type(item) is int and item.bit_length() <= 64):
        label = repr(item)
    else:
        label = f"<{full_name(type(item))}>"
    return label if len(label) <= _LONGEST_LABEL else label[:_LONGEST_LABEL] + "..."
