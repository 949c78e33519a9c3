"""Two sides measured in turn: many short rounds in random order, no garbage collection, a ratio for each."""

from __future__ import annotations

import gc
import random
import statistics
import time
import timeit
from typing import TYPE_CHECKING

from bench.rows import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Sample = Callable[[], float]  # one measurement of one side, per operation

ROUND_SECONDS = 0.01


def compare(ours: Sample, theirs: Sample, *, rounds: int, warmup: int = 2, unit: str = "s") -> Measurement:
    """The ratio of ``ours`` to ``theirs``, round by round, each side going first in about half of them."""
    order = random.Random(0)
    for _ in range(warmup):
        ours()
        theirs()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        pairs = []
        for _ in range(rounds):
            if order.random() < 0.5:
                our_sample, their_sample = ours(), theirs()
            else:
                their_sample, our_sample = theirs(), ours()
            pairs.append((our_sample, their_sample))
    finally:
        if was_enabled:
            gc.enable()
    return Measurement(
        ratios=tuple(our / their for our, their in pairs),
        ours=statistics.median(our for our, _ in pairs),
        theirs=statistics.median(their for _, their in pairs),
        unit=unit,
    )


def loop(statement: str, keys: Collection[object], **names: object) -> Sample:
    """A sample of ``statement``, run for each ``key`` of ``keys`` as often as fills a round.

    ``names`` are what the statement uses, made local variables. The cost of the bare loop is taken off.
    """
    setup = "\n".join(f"{name} = _{name}" for name in ["keys", *names])
    scope = {f"_{name}": value for name, value in {"keys": keys, **names}.items()}
    body = timeit.Timer(f"for key in keys:\n    {statement}", setup, globals=scope)
    bare = timeit.Timer("for key in keys:\n    pass", setup, globals=scope)
    # The first call comes before anything is warm; it errs on the side of longer rounds.
    passes = max(1, round(ROUND_SECONDS / min(body.repeat(3, 1))))

    def sample() -> float:
        return (body.timeit(passes) - bare.timeit(passes)) / (passes * len(keys))

    return sample


def rate(action: Callable[[], object], *, operations: int) -> Sample:
    """A sample of how many operations a second the action does."""
    seconds = clock(action, operations=operations)
    return lambda: 1 / seconds()


def clock(action: Callable[[], object], *, operations: int = 1) -> Sample:
    """A sample of an action too long to need a loop: its seconds, divided by the operations it does."""

    def sample() -> float:
        begin = time.perf_counter()
        action()
        return (time.perf_counter() - begin) / operations

    return sample
