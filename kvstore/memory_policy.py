"""Which entry leaves a full memory tier: any cachetools policy, bounded by bytes, its evictions made visible.

The policies aren't thread-safe; the memory tier calls them under its lock only.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import OrderedDict

import cachetools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, Final

    from kvstore.memory_entry import Address, Entry

_NAMED: Final[dict[str, type[cachetools.Cache[Any, Any]]]] = {
    "lru": cachetools.LRUCache,
    "fifo": cachetools.FIFOCache,
    "lfu": cachetools.LFUCache,
    "random": cachetools.RRCache,
}

_BOOKKEEPING: Final[tuple[tuple[type, int], ...]] = (
    (cachetools.LFUCache, 435),
    (cachetools.RRCache, 400),
    (cachetools.Cache, 405),
)
"""Bytes that one entry costs beside its key and value: the ``Entry``, its place in the tier's dict and in the
policy's. Python's tables double as they grow, and again once their entries come and go, so the true figure lies
anywhere from half to one and a half times this one, and a full tier of small values from 0.65 to 1.1 of its bound,
mostly within a tenth of it. ``make bench`` measures it (`memory`)."""


class Policy:
    """A cachetools policy over entries, in bytes.

    ``policy`` is one of the four names or a ``cachetools.Cache`` subclass. Raises ``ValueError`` for an unknown
    name, ``TypeError`` for anything else that is no such class, or a class that can't be made with its size
    alone. ``choice`` draws the entry that random replacement lets go, in the place of ``random.choice``.
    """

    def __init__(
        self,
        policy: str | type[Any],
        capacity: int,
        on_eviction: Callable[[Entry], None],
        choice: Callable[[Sequence[Any]], Any] | None = None,
    ) -> None:
        base = _resolve(policy)
        self.bookkeeping = next(cost for known, cost in _BOOKKEEPING if issubclass(base, known))
        self._replay = _REPLAYS.get(base, _replay_each)
        self.tells_all = base in _NAMED.values()
        """Whether it is one of the four: everything that fits is taken, and leaves by an eviction that is
        reported. Others, such as those with a time limit, may refuse it, or drop it in silence."""
        self.is_ordered = base in _ORDERED
        """Whether the order in which entries leave can be told, and is theirs who come in, or come in anew."""
        self._leave: Callable[[Any], tuple[Address, Entry]] = base.popitem
        kind: Callable[..., cachetools.Cache[Address, Entry]] = type(
            base.__name__,
            (base,),
            {
                "getsizeof": staticmethod(operator.attrgetter("cost")),
                "popitem": _reporting_popitem(base, on_eviction),
            },
        )
        self._kind = functools.partial(kind, choice=choice) if choice and base is cachetools.RRCache else kind
        self._capacity = capacity
        try:
            self.clear()
        except TypeError as error:
            raise TypeError(
                f"policy {base.__name__} can't be made as {base.__name__}(maxsize): {error}. "
                "Give a subclass that takes its size alone"
            ) from error

    @property
    def bytes(self) -> int:
        """What the entries cost together."""
        return int(self._cache.currsize)

    def __len__(self) -> int:
        return len(self._cache)

    def __contains__(self, address: Address) -> bool:
        return address in self._cache

    def touch(self, entries: list[Entry]) -> None:
        """These entries were hit, in this order."""
        self.intact = False
        try:
            self._replay(self._cache, entries)
        except Exception:  # a policy is anybody's code
            return
        self.intact = True

    def insert(self, address: Address, entry: Entry) -> bool:
        """Take the entry in, over the one at its address, evicting until it fits; whether the policy did."""
        self.intact = False
        try:
            self._cache[address] = entry
            if self.tells_all:
                self.intact = True
                return True
            # Looked up past the policy, which would take it for a hit.
            taken = address in self._cache and cachetools.Cache.__getitem__(self._cache, address) is entry
            if not taken:
                self._cache.pop(address, None)
        except Exception:  # a policy is anybody's code
            return False
        self.intact = True
        return taken

    def coldest_first(self) -> Iterator[Entry]:
        """The entries that are in it now, in the order in which they would leave; for a policy that ``is_ordered``."""
        from copy import copy

        rest = copy(self._cache)
        return (self._leave(rest)[1] for _ in range(len(rest)))

    def renew(self, entries: Iterable[Entry]) -> None:
        """Have entries that are in it come in anew, in this order."""
        self.intact = False
        with contextlib.suppress(Exception):
            for entry in entries:
                self._cache[entry.address] = entry
            self.intact = True

    def remove(self, address: Address) -> None:
        """Take the entry out, where it is in."""
        self.intact = False
        with contextlib.suppress(Exception):
            self._cache.pop(address, None)
            self.intact = True

    def clear(self) -> None:
        """Take everything out, and start from scratch."""
        self._cache = self._kind(self._capacity)
        self.intact = True
        """False after an exception, of the policy's or from a signal, left it in an unknown state: ``clear``
        it then."""


_ORDERED: Final = frozenset({cachetools.LRUCache, cachetools.FIFOCache, cachetools.LFUCache})
"""A subclass may share with its copy what it has added, so a copy of it must not be taken apart."""


def _resolve(policy: str | type[Any]) -> type[cachetools.Cache[Any, Any]]:
    if isinstance(policy, str):
        if policy not in _NAMED:
            raise ValueError(f"unknown policy {policy!r}; choose one of {', '.join(map(repr, _NAMED))}")
        return _NAMED[policy]
    if isinstance(policy, type) and issubclass(policy, cachetools.Cache):  # type: ignore[redundant-expr]
        return policy
    raise TypeError(f"policy must be a name or a subclass of cachetools.Cache, not {policy!r}")


def _reporting_popitem(base: type[Any], on_eviction: Callable[[Entry], None]) -> Callable[[Any], Any]:
    # popitem is what cachetools evicts with; pop and del serve the tier's own removals.
    def popitem(self: Any) -> Any:
        address, entry = base.popitem(self)
        on_eviction(entry)
        return address, entry

    return popitem


def _replay_each(cache: Any, entries: list[Entry]) -> None:
    for entry in entries:
        address = entry.address
        if address in cache:
            cache[address]


def _replay_latest(cache: Any, entries: list[Entry]) -> None:
    # Where only the latest access of each entry decides the order, the earlier ones need no replay.
    latest = dict.fromkeys(reversed(entries))
    # What cachetools' own access comes down to, past calls that make up a seventh of a hit. Where it keeps its order
    # otherwise, by an access.
    order = getattr(cache, "_LRUCache__order", None)
    if type(order) is not OrderedDict:
        _replay_each(cache, [*reversed(latest)])
        return
    renew = order.move_to_end
    for entry in reversed(latest):
        address = entry.address
        if address in order:
            renew(address)


def _replay_nothing(cache: Any, entries: Iterable[Entry]) -> None:
    """Neither policy looks at hits."""


_REPLAYS: Final[dict[type, Callable[[Any, list[Entry]], None]]] = {
    cachetools.LRUCache: _replay_latest,
    cachetools.FIFOCache: _replay_nothing,
    cachetools.RRCache: _replay_nothing,
}
