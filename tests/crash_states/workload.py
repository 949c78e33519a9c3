"""Doing what a history says, in processes that are forked before any of them has a store open.

Run as ``python -m tests.crash_states.workload HISTORY FOLDER MARKS HINTS`` under ``strace``. What is about to be done, and
what has been acknowledged, is written to the file MARKS, so that it stands in the trace where it belongs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import kvstore
from kvstore import dump
from tests.crash_states.history import Begin, Care, Go, History, Keep

STORE, BACKUP, DUMP = "store.kv", "backup.kv", "dump.jsonl"


class Agent:
    """One process of the workload: has the store open or not, and does as it is told."""

    def __init__(self, name: str, history: History, folder: Path, mark: Callable[..., None]) -> None:
        self._name = name
        self._history = history
        self._folder = folder
        self._mark = mark
        self._done = dict.fromkeys(history.steps, 0)
        self._store: Any = None

    def obey(self, order: Any) -> None:
        match order:
            case "open":
                self._store = kvstore.open(self._folder / STORE, durability=self._history.durability, warm=True)
                self._mark("opened", self._name)
            case "close":
                self._mark("closing", self._name)
                self._store.close()
                self._mark("closed", self._name)
            case "compact":
                self._store.compact()
            case "backup":
                self._mark("asked", "backup")
                self._store.backup(self._folder / BACKUP)
                self._mark("made", "backup")
            case "dump":
                self._mark("asked", "dump")
                with dump.writing(self._folder / DUMP) as stream:
                    dump.write(self._store, stream)
                self._mark("made", "dump")
            case dict():
                threads = [threading.Thread(target=self._go, args=item) for item in order.items()]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    def _go(self, writer: str, count: int) -> None:
        for _ in range(count):
            step = self._history.steps[writer][self._done[writer]]
            self._done[writer] += 1
            self._mark("begin", writer, self._done[writer])
            step.do(self._store)
            self._mark("ack", writer, self._done[writer])


class Leash:
    """The conductor's end of an agent in a forked process."""

    def __init__(self, agent: Agent) -> None:
        theirs, orders = os.pipe()
        answers, ours = os.pipe()
        self._process = os.fork()
        if not self._process:
            os.close(orders)
            os.close(answers)
            _serve(agent, os.fdopen(theirs, "rb"), os.fdopen(ours, "wb", buffering=0))
        os.close(theirs)
        os.close(ours)
        self._orders = os.fdopen(orders, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb", buffering=0)

    def tell(self, order: Any) -> None:
        self._orders.write(pickle.dumps(order))

    def wait(self) -> None:
        if self._answers.read(1) != b".":
            raise SystemExit("an agent has failed")

    def end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.tell(None)
        os.waitpid(self._process, 0)


def _serve(agent: Agent, orders: BinaryIO, answers: BinaryIO) -> None:
    status = 1
    try:
        while (order := pickle.load(orders)) is not None:
            agent.obey(order)
            answers.write(b".")
        status = 0
    finally:
        os._exit(status)


def conduct(history: History, folder: Path, marks: Path, hints: Path) -> None:
    """Have the scenes played, one after the other."""
    descriptor = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def mark(*words: object) -> None:
        os.write(descriptor, f"{' '.join(map(str, words))}\n".encode())

    names = sorted({writer[0] for writer in history.steps})
    leashes = {name: Leash(Agent(name, history, folder, mark)) for name in names}

    def ask(orders: dict[str, Any]) -> None:
        for name, order in orders.items():
            leashes[name].tell(order)
        for name in orders:
            leashes[name].wait()

    try:
        _play(history, folder, hints, ask)
    finally:
        for leash in leashes.values():
            leash.end()


def _play(history: History, folder: Path, hints: Path, ask: Callable[[dict[str, Any]], None]) -> None:
    kept = 0
    for scene in history.scenes:
        match scene:
            case Begin(processes):
                ask(dict.fromkeys(processes, "open"))
            case Go(steps):
                by_process: dict[str, dict[str, int]] = {}
                for writer, count in steps.items():
                    by_process.setdefault(writer[0], {})[writer] = count
                ask(by_process)
            case Care(process, what):
                ask({process: what})
            case Keep():
                for suffix in ("-ring", "-lock"):
                    shutil.copyfile(folder / (STORE + suffix), hints / f"{kept}{suffix}")
                kept += 1


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        conduct(pickle.load(file), *map(Path, sys.argv[2:5]))
