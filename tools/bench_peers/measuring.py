"""How a workload is measured: in short rounds, all contenders in turn, by one thread, several, or several processes."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.rows import NotMeasurableError
from bench_peers.peer import PAYLOADS, Contender, Locked, Payload, Peer
from bench_peers.workloads import WORKLOADS, Workload, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from bench_peers.workloads import Drawn

    Cells = dict[str, float | str]
    """By contender: operations a second, or why there are none."""

VALUES = 64
"""How many different values are written."""


@dataclass(frozen=True, slots=True)
class Done:
    """So many records, from when until when by the clock that all of the machine's processes share."""

    records: int
    begin: float
    end: float


def rate(*done: Done) -> float:
    """Records a second of all together, from the first one's begin to the last one's end: a sum of rates would count what one
    did when the others had ended already.
    """
    return sum(one.records for one in done) / (max(one.end for one in done) - min(one.begin for one in done))


def work(drawn: Drawn, seconds: float) -> Done:
    """Do the operations for about that long. The clock is looked at once a millisecond."""
    operations, steps = drawn.operations, drawn.steps
    done = at = 0
    size = 1
    begin = last = time.monotonic()
    while True:
        part = operations[at : at + size]
        steps(part)
        done += len(part)
        at += len(part)
        now = time.monotonic()
        if at >= len(operations):
            at = 0
        if now - begin >= seconds or (drawn.once and not at):
            return Done(done * drawn.weight, begin, now)
        if now - last < 0.001:
            size *= 2
        elif now - last > 0.002:
            # Of several threads one may get to do many in a row, and then has to wait for each.
            size = max(1, size // 2)
        last = now


class Standing:
    """A contender opened in a directory of its own, and filled."""

    def __init__(self, contender: Contender, place: Path, payload: Payload, *, records: int | None = None) -> None:
        place.mkdir()
        self.contender, self._place, self._payload = contender, place, payload
        self.values = payload.values(VALUES)
        self.peer: Peer = contender.make(place, payload)
        self.keys = filled(self.peer, records or payload.records, self.values)

    def draw(self, workload: Workload, seed: int = 1, *, peer: Peer | None = None) -> Drawn:
        """The workload's operations, on what is open now."""
        return workload.draw(peer or self.peer, self.keys, self.values, seed)

    def reopen(self) -> None:
        """With nothing in its memory."""
        self.peer.close()
        self.peer = self.contender.make(self._place, self._payload)

    def alone(self, workload: Workload) -> Callable[[float], float]:
        """Measures one thread."""
        if workload.reopened:

            def measure(seconds: float) -> float:
                self.reopen()
                return rate(work(self.draw(workload), seconds))

            return measure
        drawn = self.draw(workload)

        def measure_open(seconds: float) -> float:
            done = work(drawn, seconds)
            drawn.after()
            return rate(done)

        return measure_open

    def threaded(self, workload: Workload, count: int) -> Callable[[float], float]:
        """Measures several threads at once, each with a seed of its own."""
        peer: Peer = self.peer if self.contender.threads else Locked(self.peer)
        each = [self.draw(workload, seed, peer=peer) for seed in range(count)]

        def measure(seconds: float) -> float:
            together = threading.Barrier(count)

            def one(drawn: Drawn) -> Done:
                together.wait()
                return work(drawn, seconds)

            with ThreadPoolExecutor(count) as pool:
                return rate(*pool.map(one, each))

        return measure

    def in_processes(self, workload: Workload, count: int) -> Callable[[float], float]:
        """Measures several processes at once, each with the files open."""
        if not self.contender.processes:
            raise NotMeasurableError("one process at a time")
        context = multiprocessing.get_context("spawn")

        def measure(seconds: float) -> float:
            together, reports = context.Barrier(count), context.SimpleQueue()
            shared = (self.contender, self._place, self._payload.name, self.keys, workload.name, seconds)
            children = [
                context.Process(target=_child, args=(*shared, seed, together, reports)) for seed in range(count)
            ]
            for child in children:
                child.start()
            for child in children:
                child.join()
            if any(child.exitcode for child in children):
                raise NotMeasurableError(f"one of {count} processes at once fails")
            return rate(*[reports.get() for _ in children])

        return measure


def _child(
    contender: Contender,
    place: Path,
    payload: str,
    keys: list[str],
    workload: str,
    seconds: float,
    seed: int,
    together: Barrier,
    reports: Any,
) -> None:
    """One of several processes. It is told of payload and workload by name: their functions can't be sent."""
    stored = next(one for one in PAYLOADS if one.name == payload)
    chosen = next(one for one in WORKLOADS if one.name == workload)
    peer = contender.make(place, stored)
    drawn = chosen.draw(peer, keys, stored.values(VALUES), seed)
    work(drawn, seconds)  # into its memory, before the others start
    together.wait(60)
    reports.put(work(drawn, seconds))
    peer.close()


@contextmanager
def standing(
    contenders: Sequence[Contender], place: Path, payload: Payload
) -> Iterator[tuple[dict[str, Standing], Cells]]:
    """Those that are there, open and filled; and of the others why they aren't."""
    place.mkdir()
    up: dict[str, Standing] = {}
    missing: Cells = {}
    try:
        for number, contender in enumerate(contenders):
            try:
                up[str(contender)] = Standing(contender, place / str(number), payload)
            except NotMeasurableError as reason:
                missing[str(contender)] = str(reason)
        yield up, missing
    finally:
        for one in up.values():
            one.peer.close()


def in_turn(measures: dict[str, Callable[[float], float]], *, rounds: int, seconds: float) -> Cells:
    """The median rate of each, measured round by round, in a random order in each; a first round, to warm up, is left out."""
    order = random.Random(0)
    rates: dict[str, list[float]] = {name: [] for name in measures}
    failed: Cells = {}
    for _ in range(1 + rounds):
        for name in order.sample(sorted(measures), len(measures)):
            if name not in failed:
                try:
                    rates[name].append(measures[name](seconds))
                except NotMeasurableError as reason:
                    failed[name] = str(reason)
    return {name: statistics.median(found[1:]) for name, found in rates.items() if name not in failed} | failed
