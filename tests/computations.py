"""The ways of computing a missing value once, each as a function of a store that gives a call to make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import kvstore


def get_or_set(store: kvstore.Store, make: Callable[[], Any], key: str = "made") -> Callable[[], Any]:
    return lambda: store.get_or_set(key, make)


def memoized(store: kvstore.Store, make: Callable[[], Any], key: str = "made") -> Callable[[], Any]:
    @store.memoize(name=key)
    def function(number: int) -> Any:
        return make()

    return lambda: function(1)


def memoized_in_batches(store: kvstore.Store, make: Callable[[], Any], key: str = "made") -> Callable[[], Any]:
    @store.memoize(name=key, batch="numbers")
    def function(numbers: list[int]) -> list[Any]:
        return [make()] * len(numbers)

    return lambda: function([1, 2])[0]


COMPUTATIONS: Final[dict[str, Callable[..., Callable[[], Any]]]] = {
    function.__name__: function for function in (get_or_set, memoized, memoized_in_batches)
}


def forget(store: kvstore.Store) -> None:
    """Let it be missing again."""
    store.pop("made", None)
    store.namespace("memo").clear()
