"""Value objects, as frozen dataclasses are, for what `import kvstore` loads.

The standard library's ``dataclasses`` imports ``inspect`` with all that this needs, which alone takes longer
than everything that a store is made of.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, Self, dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        """What type checkers know; at run time nothing."""
        return lambda kind: kind


@dataclass_transform(frozen_default=True)
class Frozen:
    """A class whose annotations are its fields: given in order or by name, equal by content, set once.

    With ``kw_only=True`` a subclass takes its own fields by name only. ``vars(instance)`` has them as a dict.
    """

    _fields: tuple[str, ...] = ()
    _positional: tuple[str, ...] = ()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        own = tuple(cls.__annotations__)
        cls._fields += own
        if not kw_only:
            cls._positional += own

    def __init__(self, *values: Any, **named: Any) -> None:
        cls = type(self)
        if len(values) > len(cls._positional):
            raise TypeError(f"{cls.__name__} takes {len(cls._positional)} values at most, not {len(values)}")
        given = dict(zip(cls._positional, values, strict=False))
        if not given.keys().isdisjoint(named) or not named.keys() <= set(cls._fields):
            raise TypeError(f"{cls.__name__} takes each of {', '.join(cls._fields)} once, and nothing else")
        given |= named
        # A default is an attribute of the class.
        missing = [name for name in cls._fields if name not in given and not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} lacks {', '.join(missing)}")
        self.__dict__.update((name, given[name] if name in given else getattr(cls, name)) for name in cls._fields)

    def replaced(self, **changes: Any) -> Self:
        """One like it but for these fields."""
        return type(self)(**{**vars(self), **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} can't be assigned")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} can't be deleted")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__qualname__}({fields})"
