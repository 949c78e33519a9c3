"""One writer's wish, on its way through the group commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from kvstore.backends import Writing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from kvstore.coherence import Change

else:
    Protocol = object


class Tier(Protocol):
    """The part of a memory tier that a commit speaks to."""

    @property
    def default(self) -> Container[Any]:
        """The tokens of the default space's keys that are in memory."""

    def forget(self, changed: Mapping[Change, Any]) -> None:
        """Drop these keys: what memory knows of them may be about to end."""

    def forget_one(self, token: Any) -> None:
        """As ``forget``, of one key of the default space."""

    def abandon(self, changed: Iterable[Change]) -> None:
        """The commit failed."""

    def wrote(self, commit: int, changed: Mapping[Change, Any]) -> None:
        """The commit is durable: drop what it changed, and take in what it noted for this tier, now or with the next read."""

    def wrote_one(self, commit: int, key: bytes, note: Any) -> None:
        """As ``wrote`` and ``take_in``, of a key of the default space that was noted for this tier."""

    def take_in(self) -> None:
        """Take in what was written, where it is more than may wait for the next read."""


class Write:
    """One writer's wish: what to do in the transaction, and what memory may know once it is durable.

    ``apply`` gets the transaction; its result is the writer's. It may be called again in another transaction, never
    concurrently. Where the write has a ``record``, it gets a list of records beside: this one, and those of other writes
    with the same ``apply``, in their order. ``tier`` is the memory tier of the handle that it writes through.
    ``purge`` is called once a transaction, for what a commit may take along, and says whether there will ever be
    something. ``timeout`` is how many seconds the write may wait for other processes' writes. ``on_done`` is told when the
    outcome is settled, in whatever thread settled it: once for all the writes of a batch that have the same one. It must
    neither block nor raise.
    """

    __slots__ = ("_settled", "apply", "done", "error", "on_done", "purge", "record", "result", "tier", "timeout")

    on_done: Callable[..., object] | None

    def __init__(
        self,
        apply: Callable[..., Any],
        tier: Tier,
        purge: Callable[[Writing], bool] | None = None,
        timeout: float | None = None,
        record: Any = None,
    ) -> None:
        self.apply = apply
        self.record = record
        self.tier = tier
        self.purge = purge
        self.timeout = timeout
        self.on_done = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self._settled: threading.Lock | None = None

    def run(self, txn: Writing) -> None:
        """Do it by itself, and keep its result."""
        self.result = self.apply(txn) if self.record is None else self.apply(txn, [self.record])

    def finish(self, error: BaseException | None = None) -> None:
        """Settle the outcome, once."""
        if not self.done:
            self.error = error
            self.done = True
            if self._settled is not None:
                self._settled.release()

    def wait(self, timeout: float) -> bool:
        """Wait for the outcome, ``timeout`` seconds at the most; whether it is settled. For one thread at a time."""
        settled = self._settled
        if settled is None:
            settled = threading.Lock()
            settled.acquire()
            # Either finish() finds the lock, or this finds the outcome.
            self._settled = settled
        if not self.done:
            settled.acquire(timeout=timeout)
        return self.done


def settle(writes: Sequence[Write], error: Exception | None = None) -> None:
    """Settle the outcome of all, and tell whoever asked to be told, each once."""
    told: dict[Callable[..., object], list[Write]] = {}
    for write in writes:
        write.finish(error)
        on_done = write.on_done
        if on_done is not None:
            try:
                told[on_done].append(write)
            except KeyError:
                told[on_done] = [write]
    for on_done, his in told.items():
        on_done(his)
