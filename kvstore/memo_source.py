"""Functions with the parameters of another one, written out and compiled, as those of dataclasses are.

So Python itself binds a call, fills in defaults and refuses what the function would refuse, in a fraction of the time that
``inspect.Signature.bind`` takes: a hit is to cost little more than the two lookups that it needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from kvstore.memory import BUFFER_LIMIT

Parameters: TypeAlias = MappingProxyType[str, inspect.Parameter]

# `$` stands for a prefix that no parameter has. A hit is as that of `CachedSpace.get`, whose comments hold here, too: the mark is
# compared before the entry is looked up.
_HIT: Final = """\
def $make($shelves, $tier, $front, $hits, $count, $missed, $default, $type, $len, $limit):
    {define} $memoized({parameters}):
        {guard}
            $shelf = $shelves.get({kinds})
            if $shelf is not None:
                $encoded = $shelf.get({values})
                if $encoded is not None:
                    $cell, $unchanged = $tier.mark
                    if $cell[0] == $unchanged:
                        $entry = $front.get($encoded)
                        if $entry is not None:
                            $hand = $entry.hand
                            if $hand is None or $entry.expires is None:
                                $hits.append($entry)
                                if $len($hits) >= $limit:
                                    $tier.replay()
                                $count()
                                return $entry.value if $hand is None else $hand($entry.value)
        return {wait}$missed({bound})
    return $memoized
"""

_BIND: Final = """\
def $make($default):
    def $bind({parameters}):
        return {bound}
    return $bind
"""


def binder(function: Callable[..., Any], parameters: Parameters) -> Callable[..., dict[str, Any]]:
    """A function that gives all arguments of a call by their names. It raises the ``TypeError`` of a call that doesn't fit."""
    bind: Callable[..., dict[str, Any]] = _compiled(_BIND, function, parameters, {})
    return bind


def hitting(
    function: Callable[..., Any],
    parameters: Parameters,
    counted: Sequence[str],
    *,
    is_async: bool,
    **names: Any,
) -> Any:
    """The function to be called: it answers hits whose key is known, and has all others done by ``missed``, which
    gets the bound arguments. ``counted`` are the parameters that a key is made of.
    """
    variable = [name for name, each in parameters.items() if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    kinds = [f"$type({name})" for name in counted]
    parts = {
        "define": "async def" if is_async else "def",
        "wait": "await " if is_async else "",
        "guard": f"if not ({' or '.join(variable)}):" if variable else "if True:",
        "kinds": kinds[0] if len(kinds) == 1 else _tuple(kinds),
        "values": counted[0] if len(counted) == 1 else _tuple(counted),
    }
    scope = {"type": type, "len": len, "limit": BUFFER_LIMIT, **names}
    return _compiled(_HIT, function, parameters, scope, **parts)


def _compiled(
    template: str, function: Callable[..., Any], parameters: Parameters, scope: Mapping[str, Any], **parts: str
) -> Any:
    prefix = "_"
    while any(name.startswith(prefix) for name in parameters):
        prefix += "_"
    bound = "{" + ", ".join(f"{name!r}: {name}" for name in parameters) + "}"
    source = template.format(parameters=_declared(parameters), bound=bound, **parts).replace("$", prefix)
    names: dict[str, Any] = {"__name__": getattr(function, "__module__", __name__)}
    # What is executed is made of the names of parameters, which are identifiers, and of what stands above.
    exec(compile(source, f"<memoized {getattr(function, '__qualname__', function)}>", "exec"), names)  # noqa: S102
    defaults = {name: each.default for name, each in parameters.items()}
    made = names[f"{prefix}make"](
        **{f"{prefix}{name}": value for name, value in {**scope, "default": defaults}.items()}
    )
    made.__qualname__ = made.__name__ = getattr(function, "__qualname__", repr(function))
    return made


def _declared(parameters: Parameters) -> str:
    """The parameters as they stand in a definition."""
    found = []
    before: Any = None
    for name, each in parameters.items():
        if before is each.POSITIONAL_ONLY and each.kind is not before:
            found.append("/")
        if each.kind is each.KEYWORD_ONLY and before not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL):
            found.append("*")
        star = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        default = "" if each.default is each.empty else f"=$default[{name!r}]"
        found.append(f"{star}{name}{default}")
        before = each.kind
    if before is inspect.Parameter.POSITIONAL_ONLY:
        found.append("/")
    return ", ".join(found)


def _tuple(items: Sequence[str]) -> str:
    return "(" + "".join(f"{item}, " for item in items) + ")"
