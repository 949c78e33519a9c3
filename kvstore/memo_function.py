"""A function that is to be memoized: its options taken apart, and the keys of its calls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

from kvstore import keys, memo_key
from kvstore.cached import CachedSpace
from kvstore.keys import Key
from kvstore.memo_batch import BatchFunction
from kvstore.memo_call import Bound, Known, Name, Signature, Version, name_of
from kvstore.memo_results import Results
from kvstore.memo_source import hitting


class MemoFunction:
    """What is known of a function before it is called. The options are those of ``Memoize``."""

    def __init__(
        self,
        space: CachedSpace,
        function: Callable[..., Any],
        *,
        name: str | None,
        version: Version | Callable[[], Version],
        ttl: float | None,
        ignore: Iterable[str],
        batch: bool | str,
        max_batch: int | None,
    ) -> None:
        self.space: Final = space
        self.function: Final = function
        self.signature: Final = Signature(function, ignore)
        self.results: Final = Results(space, Name(name_of(function) if name is None else name, version), ttl)
        self.known: Final = Known()
        self._batch = (
            None if batch is False else BatchFunction(function, self.signature, self.results, batch, max_batch)
        )

    @property
    def batch(self) -> BatchFunction | None:
        """Its other half, where it is a batch function."""
        return self._batch

    def key(self, *args: Any, **kwargs: Any) -> Key:
        """The key of the result for these arguments."""
        bound = self.signature.bind(*args, **kwargs)
        return self._key(bound) if self._batch is None else self._batch.key(bound)

    def invalidated(self, *args: Any, **kwargs: Any) -> list[Key]:
        """The keys of the results for these arguments."""
        bound = self.signature.bind(*args, **kwargs)
        return [self._key(bound)] if self._batch is None else list(self._batch.call(bound).wanted().values())

    def encoded_key(self, bound: Bound) -> bytes:
        """The encoded key of a call that is not of a batch."""
        encoded = keys.encode(self._key(bound))
        values = self.signature.values(bound)
        if values is not None:
            self.known.add_call(values, encoded)
        return encoded

    def _key(self, bound: Bound) -> Key:
        return self.results.name.key(memo_key.digest(self.signature.encode(bound)))

    def hitting(self, missed: Callable[[Bound], Any], *, is_async: bool) -> Any:
        """The function to be called in its place: see ``memo_source.hitting``."""
        space = self.space
        return functools.wraps(self.function)(
            hitting(
                self.function,
                self.signature.parameters,
                self.signature.plain,
                is_async=is_async,
                missed=missed,
                shelves=self.known.shelves,
                tier=space._tier,
                front=space._front,
                hits=space._hits,
                count=self.results.counters.hit,
            )
        )
