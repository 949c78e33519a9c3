"""Stores of 10^4 records to 10^7: the time to open one, and of a read, from memory and from the file."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

from bench.rows import NotMeasurableError
from bench_peers.measuring import Standing, rate, work
from bench_peers.peer import SMALL, Contender
from bench_peers.workloads import Drawn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOT = 1_000
"""How many keys are read again and again: the same number in a store of any size."""
OPENINGS = 9


def at_size(contender: Contender, place: Path, records: int) -> tuple[float | str, float, float] | str:
    """Seconds to open and read one record, of a hot read, and of a cold one."""
    if records > contender.most_records:
        return f"takes too long beyond {contender.most_records:,}"
    try:
        standing = Standing(contender, place, SMALL, records=records)
    except NotMeasurableError as reason:
        return str(reason)
    try:
        chance = random.Random(records)
        cold = chance.sample(range(records), min(records, 20_000))
        opened = []
        for _ in range(OPENINGS * contender.reopens):
            begin = time.perf_counter()
            standing.reopen()
            standing.peer.get(standing.keys[0])
            opened.append(time.perf_counter() - begin)
        get = standing.peer.get

        def steps(asked: Sequence[str]) -> None:
            for key in asked:
                get(key)

        from_file = Drawn([standing.keys[number] for number in cold], steps, once=True)
        first = rate(work(from_file, 0.5))
        hot = Drawn([standing.keys[number] for number in chance.sample(range(records), HOT)] * 10, steps)
        steps(hot.operations)
        again = statistics.median(rate(work(hot, 0.05)) for _ in range(9))
        opening = statistics.median(opened) if opened else "finds nothing when it is opened again"
        return opening, 1 / again, 1 / first
    finally:
        standing.peer.close()
