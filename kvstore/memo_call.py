"""How the calls of one function become keys: arguments by name, and in front the function's name and version."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from kvstore import keys, memo_key
from kvstore.errors import InvalidKeyTypeError
from kvstore.keys import Key
from kvstore.memo_source import Parameters, binder
from kvstore.refusal import Refused, path_to

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
Bound: TypeAlias = Mapping[str, Any]
"""The arguments of a call by the names of their parameters, defaults filled in."""
Version: TypeAlias = str | int

_MAX_PART_BYTES: Final = 200
_KNOWN_BYTES: Final = 1 << 20
_KNOWN_COST: Final = 250
_LONGEST_KNOWN: Final = 1_000
_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})


class Name:
    """What the keys of a function begin with: its name and its version.

    A ``version`` that is a function is called when the first key is made, and its answer holds for the process.
    """

    def __init__(self, name: str, version: Version | Callable[[], Version]) -> None:
        self.name: Final = _fitted(name)
        self._given = version
        self._version: Version | None = None
        if not callable(version):
            self._version = _checked_version(version, name)

    def version(self) -> Version:
        """The version as it stands in the keys."""
        if self._version is None:
            # No lock, which a forked child could find held for ever: of threads that come at once, each may ask.
            made = self._given() if callable(self._given) else self._given
            checked = _checked_version(made, self.name)
            if self._version is None:
                self._version = checked
        return self._version

    def key(self, *more: Key) -> tuple[Key, ...]:
        """The key of ``more`` under name and version."""
        return (self.name, self.version(), *more)


def name_of(function: Callable[..., Any]) -> str:
    """``module.qualified_name``. The main program goes by the name under which others would import it.

    Raises ``TypeError`` for what has no name of its own.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not name or "<lambda>" in name:
        raise TypeError(f"{function!r} has no name of its own that its results could be kept under; give name=")
    if module in ("__main__", "__mp_main__"):
        main = sys.modules.get(module)
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name
        elif file is not None:
            module = os.path.splitext(os.path.basename(file))[0]
    return f"{module or '__main__'}.{name}"


class Signature:
    """A function's parameters: they bind its calls, and say what of a call is part of its key."""

    def __init__(self, function: Callable[..., Any], ignore: Iterable[str]) -> None:
        """``ignore`` names the parameters that are no part of a key. Raises ``ValueError`` where there is no such one."""
        self.title: Final = getattr(function, "__qualname__", repr(function))
        self.parameters: Final = _parameters_of(function)
        self.ignored: Final = frozenset(ignore)
        self.bind: Final[Callable[..., dict[str, Any]]] = binder(function, self.parameters)
        self._rest = self._variable(inspect.Parameter.VAR_POSITIONAL)
        self._others = self._variable(inspect.Parameter.VAR_KEYWORD)
        self.counted: Final = [name for name in self.parameters if name not in self.ignored]
        """The parameters that a key is made of."""
        self.plain: Final = [name for name in self.counted if name not in (self._rest, self._others)]
        """Of these, all but ``*args`` and ``**kwargs``."""
        unknown = self.ignored - self.parameters.keys()
        if unknown and self._others is None:
            raise ValueError(
                f"ignore names {sorted(unknown)}, and the parameters of {self.title} are {list(self.parameters)}"
            )

    def _variable(self, kind: Any) -> str | None:
        return next((name for name, each in self.parameters.items() if each.kind is kind), None)

    def call(self, bound: Bound) -> tuple[Args, Kwargs]:
        """What to call the function with."""
        args: list[Any] = []
        kwargs: Kwargs = {}
        for name, each in self.parameters.items():
            if name == self._rest:
                args += bound[name]
            elif name == self._others:
                kwargs |= bound[name]
            elif each.kind is each.KEYWORD_ONLY:
                kwargs[name] = bound[name]
            else:
                args.append(bound[name])
        return tuple(args), kwargs

    def values(self, bound: Bound) -> Args | None:
        """What ``plain`` parameters have; None where ``*args`` or ``**kwargs`` have something, too."""
        if (self._rest and bound[self._rest]) or (self._others and bound[self._others]):
            return None
        return tuple(bound[name] for name in self.plain)

    def encode(self, bound: Bound, *, without: str | None = None) -> bytes:
        """The canonical encoding of what was bound, of the parameter ``without`` not. Raises as ``encode_argument``."""
        parts = []
        for name in self.counted:
            if name == without:
                continue
            value = bound[name]
            if name == self._others:
                value = {key: item for key, item in value.items() if key not in self.ignored}
            parts.append(memo_key.encode(name) + self.encode_argument(name, value))
        return b"".join((len(parts).to_bytes(4, "big"), *parts))

    def encode_argument(self, name: str, value: Any, at: int | None = None) -> bytes:
        """The canonical encoding of an argument, or of the item ``at`` of it. Raises ``InvalidKeyTypeError``, a
        ``TypeError``, where it has none.
        """
        try:
            return memo_key.encode(value)
        except Refused as refusal:
            raise self.refused(refusal, name, value, at) from refusal

    def refused(self, refusal: Refused, name: str, value: object, at: int | None = None) -> InvalidKeyTypeError:
        """The error for an argument that has no encoding."""
        place = path_to(refusal.trail[::-1] or [value]).removeprefix("value")
        where = f"{name}{place}" if at is None else f"{name}[{at}]{place}"
        return InvalidKeyTypeError(
            f"{self.title}(): the argument {where} {refusal}, so it can't be part of a key; name it in "
            f'ignore=("{name}",) where results don\'t depend on it, give its class a {memo_key.HOOK} method, '
            "or register its type with kvstore.register"
        )


class Known:
    """Encoded keys of recent calls, found by what the arguments are, without encoding them: ``shelves[kinds][arguments]``.

    Only of scalars, and kept apart by their types, since Python holds ``1``, ``1.0`` and ``True`` equal. About 1 MiB at the
    most; then it begins anew.
    """

    def __init__(self) -> None:
        self.shelves: dict[Any, dict[Any, bytes]] = {}
        self._left = _KNOWN_BYTES

    def add_call(self, values: Args, encoded: bytes) -> None:
        """Keep the encoded key of a call with these arguments; a single one is not found in a tuple."""
        kinds = tuple(map(type, values))
        if len(values) == 1:
            self.add(kinds[0], values, values[0], encoded)
        else:
            self.add(kinds, values, values, encoded)

    def add(self, shelf: Any, values: Args, arguments: Any, encoded: bytes) -> None:
        """Keep an encoded key, where ``values``, which it was made for, are short scalars that equal themselves alone."""
        cost = _KNOWN_COST
        for value in values:
            kind = type(value)
            if kind not in _SCALARS or (kind is float and not value):  # 0.0 equals -0.0
                return
            if kind in (str, bytes) and len(value) > _LONGEST_KNOWN:
                return
            cost += sys.getsizeof(value)
        self._left -= cost
        if self._left < 0:
            self._left = _KNOWN_BYTES - cost
            self.shelves.clear()
        self.shelves.setdefault(shelf, {})[arguments] = encoded


def _parameters_of(function: Callable[..., Any]) -> Parameters:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # of some that are written in C
        raise TypeError(f"{function!r} doesn't say what its parameters are; memoize a function that calls it") from None


def _checked_version(version: object, name: str) -> Version:
    if type(version) is int:
        keys.encode(version)
        return version
    if type(version) is str:
        return _fitted(version)
    raise TypeError(f"the version of {name} must be a str or an int, or a function that gives one, not {version!r}")


def _fitted(text: str) -> str:
    """The text itself or, where it would take too much of a key's 511 bytes, its beginning and its digest."""
    encoded = text.encode()
    if len(encoded) + encoded.count(0) <= _MAX_PART_BYTES:  # a NUL takes two bytes of a key
        return text
    return f"{encoded[:100].decode(errors='ignore')}~{memo_key.digest(encoded).hex()}"
