"""Memoized functions: their results are kept in a store, and computed once among threads, tasks and processes.

>>> @store.memoize(version=2)                                 # doctest: +SKIP
... def embed(text: str) -> list[float]:
...     return model.encode(text)

The results of `store.memoize` are records of the namespace ``memo``, those of `namespace.memoize` of that namespace:

    (name, version, digest of the arguments)    a result
    (name, version)                             how many were computed, and the seconds that took
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from kvstore import expiry, memo_sync
from kvstore.cached import CachedSpace
from kvstore.keys import Key
from kvstore.memo_call import Version
from kvstore.memo_function import MemoFunction
from kvstore.memo_results import MemoStats

if TYPE_CHECKING:
    from kvstore.aio_cached import CachedFace

__all__ = ["AsyncMemoize", "AsyncMemoized", "MemoStats", "Memoize", "Memoized"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Memoized(Protocol[P, R_co]):
    """A memoized function: called as before, and with these methods. Of a method, call them on the class:
    ``Model.embed.key(model, "text")``.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The stored result for these arguments; without one, what the function returns, stored."""

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., R_co]: ...

    def key(self, *args: Any, **kwargs: Any) -> Key:
        """The key of the result for these arguments; of a batch function, give one item in the place of the items."""

    def invalidate(self, *args: Any, **kwargs: Any) -> int:
        """Delete the results for these arguments; how many there were. Of a batch function, for all the items given."""

    def clear(self) -> int:
        """Delete all results, of every version; how many there were."""

    def drop_old_versions(self) -> int:
        """Delete the results of every version but the present one; how many there were."""

    def stats(self) -> MemoStats:
        """What was asked of the function in this process, and what that saved."""


class AsyncMemoized(Protocol[P, R_co]):
    """A memoized coroutine function: as ``Memoized``, its methods but ``key`` coroutines."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Coroutine[Any, Any, R_co]]: ...

    def key(self, *args: Any, **kwargs: Any) -> Key: ...

    async def invalidate(self, *args: Any, **kwargs: Any) -> int: ...

    async def clear(self) -> int: ...

    async def drop_old_versions(self) -> int: ...

    async def stats(self) -> MemoStats: ...


class Decorator(Protocol):
    """What ``memoize`` with options gives: it takes the function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # what a coroutine function gives is also an R
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncMemoized[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Memoized[P, R]: ...


class AsyncDecorator(Protocol):
    """The same, of a store in ``kvstore.aio``."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncMemoized[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> AsyncMemoized[P, R]: ...


class Memoize:
    """``store.memoize``, or a namespace's: a decorator, with or without options. See ``__call__``."""

    def __init__(self, space: CachedSpace) -> None:
        self._space = space

    @overload
    def __call__(  # type: ignore[overload-overlap]  # what a coroutine function gives is also an R
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncMemoized[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Memoized[P, R]: ...
    @overload
    def __call__(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        version: Version | Callable[[], Version] = "",
        ttl: float | None = None,
        ignore: str | Iterable[str] = (),
        batch: bool | str = False,
        max_batch: int | None = None,
    ) -> Decorator: ...

    def __call__(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        version: Version | Callable[[], Version] = "",
        ttl: float | None = None,
        ignore: str | Iterable[str] = (),
        batch: bool | str = False,
        max_batch: int | None = None,
    ) -> Any:
        """Keep the results of the function in the store: a call with arguments that were given before, in whatever process, is
        answered from there. It runs once, however many threads, tasks and processes ask. What it raises is not kept, and
        None is a result as any other.

        ``name`` is what the results are kept under; by default the module's and the function's, which a lambda doesn't have.
        ``version``, a str or an int, is part of the key: results of other versions aren't found. A function that gives it is
        called once in a process, when it is first needed. ``ttl`` is how many seconds a result lasts. ``ignore`` names the
        parameters that results don't depend on; any other argument must be a storable value, a numpy array, a class, or
        have a ``__memo_key__`` method that returns one of these. That goes for ``self``, too.

        With ``batch`` the function takes a list, or an array of rows, and returns a list, or an array of rows, with a result
        for each item; it is called with the items alone that have no result yet, at most ``max_batch`` at once. The
        items are the first argument after ``self`` and what is ignored; ``batch="texts"`` names another one.

        A coroutine function stays one. Raises ``TypeError`` for what can't be memoized, and ``ValueError`` for options
        that name no parameter or are out of range. A call raises what the function raises, ``TypeError`` for an argument
        that can't be part of a key, and otherwise as ``set``; where a result can't be stored because the store is
        full, busy or read-only, it is returned all the same, and counted as ``unstored``.
        """
        if name is not None and (type(name) is not str or not name):
            raise TypeError(f"name must be a str that isn't empty, not {name!r}")
        expiry.deadline(time.time, ttl)
        _require_batch(batch, max_batch)
        options = {
            "name": name,
            "version": version,
            "ttl": ttl,
            "ignore": (ignore,) if isinstance(ignore, str) else tuple(ignore),
            "batch": batch,
            "max_batch": max_batch,
        }
        if function is None:
            return functools.partial(self._memoized, **options)
        return self._memoized(function, **options)

    def _memoized(self, function: Any, **options: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(function)(self._memoized(function.__func__, **options))
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                f"a function can be memoized, not {function!r}; decorate the method, or a function that calls it"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is a generator function, which has no result; let it return a list"
            )
        return self._wrapped(MemoFunction(self._space, function, **options))

    def _wrapped(self, memo: MemoFunction) -> Any:
        if _is_async(memo.function):
            from kvstore import memo_async

            return memo_async.wrapped(memo, memo_async.face_of(self._space))
        return memo_sync.wrapped(memo)


class AsyncMemoize(Memoize):
    """``memoize`` of a store in ``kvstore.aio``: as ``Memoize``, and whatever it is given becomes a coroutine function.
    A function that is none is called in a thread, as by ``asyncio.to_thread``.
    """

    def __init__(self, face: CachedFace) -> None:
        super().__init__(face._space)
        self._face = face

    if TYPE_CHECKING:

        @overload  # type: ignore[override]  # whatever it is given
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncMemoized[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> AsyncMemoized[P, R]: ...
        @overload
        def __call__(
            self,
            *,
            name: str | None = None,
            version: Version | Callable[[], Version] = "",
            ttl: float | None = None,
            ignore: str | Iterable[str] = (),
            batch: bool | str = False,
            max_batch: int | None = None,
        ) -> AsyncDecorator: ...
        def __call__(self, *functions: Any, **options: Any) -> Any: ...

    def _wrapped(self, memo: MemoFunction) -> Any:
        from kvstore import memo_async

        return memo_async.wrapped(memo, self._face)


def _require_batch(batch: object, max_batch: object) -> None:
    if type(batch) not in (bool, str):
        raise TypeError(f"batch must be True, or the name of the parameter that takes the items, not {batch!r}")
    if max_batch is not None:
        if batch is False:
            raise ValueError("max_batch is for batch functions: say batch=True, too")
        if type(max_batch) is not int or max_batch < 1:
            raise ValueError(f"max_batch must be an int of at least 1, not {max_batch!r}")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
