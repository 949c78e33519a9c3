"""Values in terms of what msgpack has: lists, dicts, plain scalars and extensions."""

from __future__ import annotations

from types import NoneType

from kvstore.composites import DICT, FROZENSET, OPENERS, OWN_TYPE, SET, meet
from kvstore.errors import UnstorableValueError
from kvstore.extensions import BIG_INT, WRITERS, write_big_int
from kvstore.extensions_numpy import have_scalar, is_numpy
from kvstore.extensions_numpy import way_out as numpy_way_out
from kvstore.plain import MAX_DEPTH, NATIVE_KEYS, PLAIN
from kvstore.refusal import Refused, full_name, path_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from kvstore.registry import Registry

_BY_HASH = frozenset({SET, FROZENSET, DICT})
_UNFAILING = frozenset({NoneType, bool, float, bytes})
_STANDING = frozenset({*PLAIN, *WRITERS, *OPENERS, list})  # the types that need not be met


class Writer:
    """Makes of any storable value one that msgpack packs.

    A careful writer looks at each str and int. Another one leaves those that msgpack can't pack to the
    packing, which fails on them.
    """

    def __init__(
        self,
        pack: Callable[[object], bytes],
        extension: Callable[[tuple[int, bytes]], object],
        registry: Registry,
        *,
        careful: bool,
    ) -> None:
        """`extension` makes, of a code and data, what `pack` writes as an extension."""
        self._pack = pack
        self._extension = extension
        self._registry = registry
        self._as_is = _UNFAILING if careful else PLAIN
        self._marks = {code: extension((code, b"")) for code in range(16, 32)}

    def write(self, value: object) -> object:
        """What to pack in place of `value`.

        Raises UnstorableValueError, and what packing raises, as the members of a set are packed to be sorted.
        """
        try:
            return self._lower(value, MAX_DEPTH)
        except Refused as refusal:
            trail = refusal.trail[::-1]
            reason = "contains itself" if len({id(item) for item in trail}) < len(trail) else refusal
            raise UnstorableValueError(f"{path_to(trail)} {reason}") from refusal.__cause__

    def _lower(self, value: Any, room: int) -> object:
        """Recursive; a comprehension would take a second frame of the stack for each level."""
        as_is = self._as_is
        kind = type(value)
        try:
            if kind not in _STANDING:
                meet(kind)
            if kind in WRITERS:
                code, write = WRITERS[kind]
                return self._extension((code, write(value)))
            if kind in PLAIN:
                return self._scalar(value)
            if room == 0:
                raise Refused(f"is nested more than {MAX_DEPTH} deep")  # noqa: TRY301  # to be given its place
            if kind is dict and NATIVE_KEYS.issuperset(map(type, value)):
                pairs = {}
                for key, item in value.items():
                    name = key if type(key) in as_is else self._lower(key, room)
                    pairs[name] = item if type(item) in as_is else self._lower(item, room - 1)
                return pairs
            if kind is list:
                if as_is.issuperset(map(type, value)):
                    return value
                code, items, lowered = 0, value, []
            else:
                code, items = self._take_apart(kind, value)
                lowered = [self._marks[code]]
            for item in items:
                lowered.append(item if type(item) in as_is else self._lower(item, room - 1))
            if code in _BY_HASH:
                self._settle(code, items, lowered)
        except Refused as refusal:
            refusal.trail.append(value)
            raise
        return lowered

    def _scalar(self, value: Any) -> object:
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            return self._extension((BIG_INT, write_big_int(value)))
        if type(value) is str:
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise Refused(
                    f"has a lone surrogate at character {error.start}, which UTF-8 has no bytes for; "
                    "for a file name, use os.fsencode"
                ) from None
        return value

    def _take_apart(self, kind: type, value: object) -> tuple[int, tuple[object, ...]]:
        """The code of a composite's marker, and what follows it."""
        if kind in OPENERS:
            code, opener = OPENERS[kind]
            return code, opener(value)
        registration = self._registry.by_type.get(kind)
        if registration is None:
            way_out = "convert it to a built-in type, or register its type with kvstore.register"
            if is_numpy(kind):
                way_out = numpy_way_out(kind)
            raise Refused(f"is of the type {full_name(kind)}, which would not come back as it is; {way_out}")
        try:
            return OWN_TYPE, (registration.name, registration.encode(value))
        except Exception as error:
            raise Refused(f"can't be stored: the encode function of {registration.name!r} raised {error!r}") from error

    def _settle(self, code: int, items: Sequence[object], lowered: list[Any]) -> None:
        """Put a set's members in order; refuse members or keys that are one when read as `Opaque`."""
        step = 2 if code == DICT else 1
        what = "keys" if code == DICT else "members"
        if have_scalar(items[::step]):
            raise Refused(
                f"has {what} that are numpy scalars, or have them in them; {what} are Python's own types: "
                "use int(x), float(x), str(x) or x.item()"
            )
        keys = zip(items[::step], lowered[1::step], strict=True)
        # Two NaNs stay two, read in whatever way.
        doubtful = [self._pack(key) for item, key in keys if type(item) not in PLAIN and type(item) not in WRITERS]
        if len(set(doubtful)) != len(doubtful):
            raise Refused(f"has {what} that differ in memory and not as they are stored")
        if code != DICT:
            lowered[1:] = sorted(lowered[1:], key=self._pack)
