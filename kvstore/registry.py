"""Own types: what `register` has been told in this process, and the stand-in for a type it has not."""

from __future__ import annotations

import threading

from kvstore.errors import UnknownTypeError
from kvstore.frozen import Frozen
from kvstore.refusal import full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


class Opaque(Frozen):
    """A value of a registered type in its stored form, for tools that know its name and not its class."""

    name: str
    value: object

    def __hash__(self) -> int:
        """Equal ones hash alike; with an unhashable stored form, all of one name do."""
        try:
            return hash((self.name, self.value))
        except TypeError:
            return hash(self.name)


class Registration(Frozen):
    """How values of one type are stored under one name."""

    type: type
    name: str
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]


class Registry:
    """Registrations by type and by name. Reading takes no lock."""

    def __init__(self, is_reserved: Callable[[type], bool]) -> None:
        """`is_reserved` knows the types that the value model already has, which can't be registered."""
        self._is_reserved = is_reserved
        self._lock = threading.Lock()
        self.by_type: dict[type, Registration] = {}
        self.by_name: dict[str, Registration] = {}

    def add(self, kind: type[T], name: str, encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
        """Store values of exactly `kind` as `encode(value)`, under `name`.

        Doing so again, or for a re-executed definition of the class, replaces the functions. Raises TypeError
        for what is not a type, a name or a function, and ValueError for a type or a name that is taken.
        """
        if not isinstance(kind, type):
            raise TypeError(f"only a class can be registered, not {kind!r}")
        if type(name) is not str or not name:
            raise TypeError(f"a registered name is a non-empty str, not {name!r}")
        if not all(map(callable, (encode, decode))):
            raise TypeError("encode and decode must be functions")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the name {name!r} has a lone surrogate") from None
        if self._is_reserved(kind):
            raise ValueError(f"{kind.__qualname__} is stored as it is and can't be registered")
        with self._lock:
            holder = self.by_type.get(kind)
            if holder is not None and holder.name != name:
                raise ValueError(f"{kind.__qualname__} is already registered as {holder.name!r}")
            holder = self.by_name.get(name)
            if holder is not None and not _is_same_definition(holder.type, kind):
                raise ValueError(f"the name {name!r} is already registered for {full_name(holder.type)}")
            registration = Registration(kind, name, encode, decode)
            self.by_name[name] = self.by_type[kind] = registration
            if holder is not None and holder.type is not kind:
                del self.by_type[holder.type]

    def revive(self, name: str, stored: object) -> object:
        """The value of an own type, from its stored form.

        Raises UnknownTypeError for a name that nothing is registered under, and ValueError where its decode
        function raises, or returns something else than the type.
        """
        registration = self.by_name.get(name)
        if registration is None:
            raise UnknownTypeError(
                f"a value of the own type {name!r}, which is not registered in this process; "
                f"call kvstore.register(type, {name!r}, encode, decode) before reading"
            )
        try:
            value = registration.decode(stored)
        except Exception as error:
            raise ValueError(f"the decode function registered for {name!r} raised {error!r}") from error
        if type(value) is not registration.type:
            raise ValueError(f"the decode function registered for {name!r} returned a {type(value).__qualname__}")
        return value


def _is_same_definition(old: type, new: type) -> bool:
    """Whether one is the other, or what became of it when its module or notebook cell ran again."""
    return full_name(old) == full_name(new)
