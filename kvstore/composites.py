"""The container types that msgpack lacks, each as a msgpack array that a marker opens.

A marker is an empty extension in the first place of an array. No value is one, so no list is taken for it:

    16  tuple       [marker, element, ...]
    17  set         [marker, member, ...]        in the order of the members' encodings
    18  frozenset   [marker, member, ...]        likewise
    19  dict        [marker, key, value, ...]    in its own order; only where a key is neither str nor bytes
    20  Fraction    [marker, numerator, denominator]
    21  own type    [marker, registered name, stored form]

As everything nests in one msgpack value, decoding it takes one pass and no recursion.
"""

from __future__ import annotations

from itertools import chain

from kvstore import extensions
from kvstore.extensions import is_named
from kvstore.extensions_numpy import SCALARS
from kvstore.plain import IMMUTABLE
from kvstore.refusal import Refused
from kvstore.registry import Opaque, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction
    from typing import Any, Final

TUPLE: Final = 16
SET: Final = 17
FROZENSET: Final = 18
DICT: Final = 19
FRACTION: Final = 20
OWN_TYPE: Final = 21


class Marker:
    """What a marker decodes to; `build` makes the container of the array it opens, itself included."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], object]) -> None:
        self.build = build


def _build_tuple(items: list[Any]) -> tuple[object, ...]:
    del items[0]
    return tuple(items)


def _build_set(items: list[Any]) -> set[object]:
    del items[0]
    members = set(items)
    if len(members) != len(items) or not SCALARS.isdisjoint(map(type, members)):
        raise ValueError("a set has a member twice, or one that none has")
    return members


def _build_frozenset(items: list[Any]) -> frozenset[object]:
    return frozenset(_build_set(items))


def _build_dict(items: list[Any]) -> dict[object, object]:
    if len(items) % 2 == 0:
        raise ValueError("a dict lacks a key's value")
    pairs = dict(zip(items[1::2], items[2::2], strict=True))
    if len(pairs) != len(items) >> 1 or not SCALARS.isdisjoint(map(type, pairs)):
        raise ValueError("a dict has a key twice, or one that none has")
    return pairs


def _build_fraction(items: list[Any]) -> Fraction:
    from fractions import Fraction

    _, numerator, denominator = items
    if type(numerator) is not int or type(denominator) is not int or denominator < 1:
        raise ValueError("a Fraction is not of two ints")
    value = Fraction(numerator, denominator)
    if value.denominator != denominator:
        raise ValueError("a Fraction is not in lowest terms")
    meet(Fraction)
    return value


def own_type_markers(registry: Registry) -> tuple[Marker, Marker]:
    """The marker of own types, building their values; and one that leaves them as Opaque."""

    def build(items: list[Any]) -> object:
        stored = leave(items)
        return registry.revive(stored.name, stored.value)

    def leave(items: list[Any]) -> Opaque:
        _, name, value = items
        if type(name) is not str or not name:
            raise ValueError("an own type's name is not a str")
        return Opaque(name, value)

    return Marker(build), Marker(leave)


MARKERS: Final = {
    TUPLE: Marker(_build_tuple),
    SET: Marker(_build_set),
    FROZENSET: Marker(_build_frozenset),
    DICT: Marker(_build_dict),
    FRACTION: Marker(_build_fraction),
}
"""By extension code, without the own types' one. Bad items raise ValueError or TypeError."""


def _open_opaque(value: Opaque) -> tuple[str, object]:
    if type(value.name) is not str or not value.name:
        raise Refused("is an Opaque whose name is not a non-empty str")
    return value.name, value.value


OPENERS: Final[dict[type, tuple[int, Callable[[Any], tuple[object, ...]]]]] = {
    tuple: (TUPLE, tuple),
    set: (SET, tuple),
    frozenset: (FROZENSET, tuple),
    dict: (DICT, lambda value: tuple(chain.from_iterable(value.items()))),
    Opaque: (OWN_TYPE, _open_opaque),
}
"""By exact type: the marker's code, and value -> what follows the marker. Raises `Refused`. Fraction joins
when it is met."""


def meet(kind: type) -> None:
    """Let a type into the tables that stands in none of them, where it is one of the value model.

    The types of modules that few programs import wait outside until a first value or payload brings them,
    here or in `kvstore.extensions`: so that importing the library doesn't import those modules.
    """
    extensions.meet(kind)
    if is_named(kind, "fractions", "Fraction"):
        OPENERS[kind] = FRACTION, lambda value: (value.numerator, value.denominator)
        IMMUTABLE.add(kind)
