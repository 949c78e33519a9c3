"""A mixed load for as long as one likes, by several processes, on a store that is full: ``python -m tests.soak --seconds 1800``.

Everything that may pile up is measured at intervals, in each process; what is asked afterwards is that it hasn't: memory, the
tier, the file, descriptors, slots of LMDB's reader table. Each value says which key it belongs to, and each read looks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

import kvstore
from kvstore import StoreFullError

ROOT = Path(__file__).parent.parent
PROCESSES = 4
THREADS = 2
KEYS = 20_000
CACHE_SIZE = 256 << 10
MAX_SIZE = 8 << 20
SAMPLES = 32
"""Of each process. The first one closes the store after each of them, and opens it again, warm."""

_PADDING = bytes(6_000)


class Sample(NamedTuple):
    """What one process has at one moment; bytes, and counts."""

    seconds: float
    rss: int
    descriptors: int
    threads: int
    tier: int
    hits: int
    lookups: int
    file: int
    operations: int
    full: int


class Load:
    """One thread's part: picks keys as a cache's users do, few of them often."""

    def __init__(self, store: kvstore.Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.operations = 0
        self.full = 0

    def run(self, until: float) -> None:
        steps, weights = zip(*self.STEPS, strict=True)
        while time.monotonic() < until:
            for step in self.random.choices(steps, weights, k=50):
                try:
                    step(self)
                except StoreFullError:
                    self.full += 1
                    self.make_room()
                self.operations += 1

    def key(self) -> int:
        return int(self.random.paretovariate(0.5)) % KEYS

    def value(self, key: object) -> list[object]:
        return [key, self.random.random(), _PADDING[: self.random.randrange(20, 3_000)]]

    def check(self, key: object, value: Any) -> None:
        if value is not None and value[0] != key:
            raise AssertionError(f"under {key!r} stands what belongs to {value[0]!r}")

    def get(self) -> None:
        key = self.key()
        self.check(key, self.store.get(key))

    def get_many(self) -> None:
        for key, value in self.store.get_many([self.key() for _ in range(20)]).items():
            self.check(key, value)

    def set_ending(self) -> None:
        key = self.key()
        self.store.set(key, self.value(key), ttl=self.random.uniform(0.5, 20))

    def set_staying(self) -> None:
        key = self.key()
        self.store[key] = self.value(key)

    def set_many(self) -> None:
        keys = {self.key() for _ in range(20)}
        self.store.set_many({key: self.value(key) for key in keys}, ttl=10)

    def delete(self) -> None:
        self.store.delete(self.key())

    def count(self) -> None:
        self.store.incr(("count", self.random.randrange(100)))

    def compute(self) -> None:
        key = self.key()
        self.check(key, self.store.get_or_set(key, lambda: self.value(key), ttl=5))

    def transfer(self) -> None:
        with self.store.transaction() as transaction:
            key = self.key()
            self.check(key, transaction.get(key))
            transaction.set(key, self.value(key), ttl=5)
            transaction.namespace("n").set(key, self.value(key), ttl=5)

    def scan(self) -> None:
        for key, value in self.store.scan(start=self.key(), stop=KEYS, limit=30):
            self.check(key, value)

    def scan_partly(self) -> None:
        """Leave an iteration in its midst, as a ``break`` does."""
        for key, value in self.store.scan(start=self.key(), stop=KEYS):
            self.check(key, value)
            break

    def look_back(self) -> None:
        with self.store.snapshot() as snapshot:
            for key in (self.key(), self.key()):
                self.check(key, snapshot.get(key))

    def append(self) -> None:
        self.store.list("recent", maxlen=200).append(self.key())

    def tag(self) -> None:
        tags = self.store.set_of("tags")
        tags.add(self.random.randrange(500))
        tags.discard(self.random.randrange(500))

    def in_namespace(self) -> None:
        space = self.store.namespace("n")
        key = self.key()
        self.check(key, space.get(key))
        space.set(key, self.value(key), ttl=3)

    def make_room(self) -> None:
        """What a program does of which the store has told that it is full."""
        self.store.expire()
        keys = list(self.store.scan_keys(start=self.random.randrange(KEYS), stop=KEYS, limit=100))
        self.store.delete_many(keys)

    STEPS = (
        (get, 600),
        (get_many, 15),
        (set_ending, 30),
        (set_staying, 60),
        (set_many, 3),
        (delete, 5),
        (count, 5),
        (compute, 5),
        (transfer, 3),
        (scan, 3),
        (scan_partly, 3),
        (look_back, 5),
        (append, 2),
        (tag, 2),
        (in_namespace, 3),
    )


def work(path: str, number: int, seconds: float, durability: kvstore.Durability) -> None:
    """One process: prints a sample as JSON at each interval."""
    began = time.monotonic()
    done = [0, 0, 0, 0]  # by handles that were closed: hits, lookups, operations, full
    session = seconds / SAMPLES if number == 0 else seconds
    for _ in range(SAMPLES if number == 0 else 1):
        with kvstore.open(
            path, cache_size=CACHE_SIZE, max_size=MAX_SIZE, durability=durability, warm=number == 0
        ) as store:
            loads = [Load(store, random.randrange(1 << 32)) for _ in range(THREADS)]
            until = time.monotonic() + session
            failures: list[BaseException] = []
            threads = [threading.Thread(target=_run, args=(load, until, failures)) for load in loads]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(seconds / SAMPLES)
                    if number or not thread.is_alive():
                        _report(store, began, done, loads)
            if failures:
                raise failures[0]
            stats = store.stats()
            for place, more in enumerate(
                (stats.hits, stats.lookups, sum(load.operations for load in loads), sum(load.full for load in loads))
            ):
                done[place] += more


def _run(load: Load, until: float, failures: list[BaseException]) -> None:
    try:
        load.run(until)
    except BaseException as error:
        failures.append(error)


def _report(store: kvstore.Store, began: float, done: list[int], loads: list[Load]) -> None:
    stats = store.stats()
    sample = Sample(
        time.monotonic() - began,
        int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        stats.memory_bytes,
        done[0] + stats.hits,
        done[1] + stats.lookups,
        stats.file_bytes,
        done[2] + sum(load.operations for load in loads),
        done[3] + sum(load.full for load in loads),
    )
    print(json.dumps(sample), flush=True)


class Report(NamedTuple):
    """What a soak has found: the samples of each process, the slots in LMDB's reader table while they ran and after they had
    ended, and what ``verify`` says of what is left.
    """

    samples: list[list[Sample]]
    slots: list[int]
    slots_left: int
    problems: list[str]


def soak(path: Path, seconds: float, *, durability: kvstore.Durability = "full") -> Report:
    """Run the load. Raises ``CalledProcessError`` where a process fails, a read that found another key's value included."""
    with kvstore.open(path, max_size=MAX_SIZE) as store, contextlib.suppress(StoreFullError):
        load = Load(store, 0)
        while True:
            store.set_many({key: load.value(key) for key in {load.random.randrange(KEYS) for _ in range(100)}})
    command = [sys.executable, "-m", "tests.soak", "--work", os.fspath(path), "--durability", durability]
    command += ["--seconds", str(seconds)]
    environment = os.environ | {"PYTHONPATH": os.fspath(ROOT)}
    with contextlib.ExitStack() as running:
        workers = []
        for number in range(PROCESSES):
            worker = subprocess.Popen(
                [*command, "--number", str(number)], stdout=subprocess.PIPE, text=True, env=environment
            )
            running.enter_context(worker)
            # What has ended already isn't harmed.
            running.callback(worker.kill)
            workers.append(worker)
        said: list[list[str]] = [[] for _ in workers]

        def listen(worker: subprocess.Popen[str], lines: list[str]) -> None:
            lines.extend(worker.stdout)

        listeners = [
            threading.Thread(target=listen, args=(worker, lines)) for worker, lines in zip(workers, said, strict=True)
        ]
        for listener in listeners:
            listener.start()
        slots = []
        with lmdb.open(os.fsencode(path), subdir=False, readonly=True, max_readers=1022) as env:
            while any(listener.is_alive() for listener in listeners):
                listeners[-1].join(seconds / SAMPLES)
                slots.append(_slots(env))
                time.sleep(0.01)
            for worker in workers:
                if worker.wait():
                    raise subprocess.CalledProcessError(worker.returncode, worker.args)
            env.reader_check()
            slots_left = _slots(env)
    with kvstore.open(path, readonly=True) as store:
        problems = [str(problem) for problem in store.verify().problems]
    samples = [[Sample(*json.loads(line)) for line in lines] for lines in said]
    return Report(samples, slots, slots_left, problems)


def _slots(env: Any) -> int:
    rows = (line.split() for line in env.readers().splitlines()[1:])
    return sum(1 for row in rows if row and row[0] != str(os.getpid()))


def quarter(samples: list[Sample], number: int) -> list[Sample]:
    """Those of a quarter of the time, numbered from 1; the first is for warming up."""
    length = samples[-1].seconds / 4
    return [sample for sample in samples if (number - 1) * length < sample.seconds <= number * length]


def median(samples: list[Sample], field: str) -> float:
    """The middle one of the samples' figures."""
    return statistics.median(getattr(sample, field) for sample in samples)


def hit_rate(samples: list[Sample]) -> float:
    """Between the first and the last of the samples."""
    return (samples[-1].hits - samples[0].hits) / (samples[-1].lookups - samples[0].lookups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_800)
    parser.add_argument("--durability", default="full")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.number, given.seconds, given.durability)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder, "soak.kv"), given.seconds, durability=given.durability)
    print("| process | quarter | RSS, MiB | tier, MiB | file, MiB | hit rate | descriptors | threads |")
    print("|---|---|---|---|---|---|---|---|")
    for number, samples in enumerate(report.samples):
        for part in (2, 3, 4):
            these = quarter(samples, part)
            print(
                f"| {number} | {part} | {median(these, 'rss') / 2**20:.1f} | {median(these, 'tier') / 2**20:.2f} "
                f"| {median(these, 'file') / 2**20:.2f} | {hit_rate(these):.3f} "
                f"| {median(these, 'descriptors'):.0f} | {median(these, 'threads'):.0f} |"
            )
    operations = sum(samples[-1].operations for samples in report.samples)
    full = sum(samples[-1].full for samples in report.samples)
    print(
        f"\n{operations:,} operations in {given.seconds:,.0f} s; {full:,} writes found the store full. Reader slots: "
        f"{report.slots[len(report.slots) // 2]} midway, at most {max(report.slots)}, {report.slots_left} left. "
        f"Problems: {report.problems or 'none'}."
    )


if __name__ == "__main__":
    main()
