"""Forked children that work on a store until they are killed, and say meanwhile what they have done."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kvstore
from tests.crash_states.history import Step, any_step
from tests.threads import PATIENCE_SECONDS

Say = Callable[[int, int], object]
"""``say(writer, count)``: that writer has done so many steps, and each was acknowledged. A reader says how often it has
read, as writer 0."""

_SAYING = struct.Struct("=II")

_alive: set[Victim] = set()


class Victim:
    """A forked child. ``said`` holds what it has said last of each writer, once it was heard."""

    def __init__(self, work: Callable[[Say], object]) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _work(work, writer)
        os.close(writer)
        self.said: dict[int, int] = {}
        _alive.add(self)

    def hear(self) -> None:
        """Wait for the next that it says. ``TimeoutError`` where nothing comes, ``EOFError`` where it has ended."""
        if not select.select([self._reader], [], [], PATIENCE_SECONDS)[0]:
            raise TimeoutError("the child does nothing any more")
        if not self._hear():
            raise EOFError("the child has ended by itself")

    def _hear(self) -> bool:
        saying = os.read(self._reader, _SAYING.size)
        if saying:
            writer, count = _SAYING.unpack(saying)
            self.said[writer] = count
        return bool(saying)

    def kill(self) -> None:
        """``kill -9``; then hear what it has said before."""
        _alive.discard(self)
        os.kill(self._pid, signal.SIGKILL)
        status = os.waitpid(self._pid, 0)[1]
        assert status in {signal.SIGKILL, 0}, f"the child has failed: {status}"
        while self._hear():
            pass
        os.close(self._reader)

    def ended(self) -> bool:
        """Wait until it ends by itself; whether it did so without an error."""
        _alive.discard(self)
        os.close(self._reader)
        return os.waitpid(self._pid, 0)[1] == 0


def kill_all() -> None:
    """Kill what a test has left behind that has failed."""
    while _alive:
        _alive.pop().kill()


def _work(work: Callable[[Say], object], writer: int) -> None:
    status = 1
    try:
        # One call for each, so that none is there in part.
        work(lambda number, count: os.write(writer, _SAYING.pack(number, count)))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def steps_of(seed: int, writer: str) -> Iterator[Step]:
    """What a writer does, without an end."""
    rng = random.Random(f"{seed} {writer}")
    number = 0
    while True:
        yield any_step(rng, writer, f"{seed}.{number}")
        number += 1


def write(
    path: Path, durability: Any, seed: int, writers: dict[int, str], *, caring: bool = False
) -> Callable[[Say], None]:
    """Work of as many threads as there are writers, each known by a number. ``caring``: compact and back up in between."""

    def work(say: Say) -> None:
        store = kvstore.open(path, durability=durability)

        def go(number: int, writer: str) -> None:
            for done, step in enumerate(steps_of(seed, writer)):
                say(number, done)
                step.do(store)
                if caring and done % 3 == 2:
                    backup = path.with_suffix(".backup")
                    backup.unlink(missing_ok=True)
                    store.backup(backup)
                    store.compact()

        threads = [threading.Thread(target=go, args=item) for item in writers.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return work


def read(path: Path) -> Callable[[Say], None]:
    """Work that reads in every way, again and again."""

    def work(say: Say) -> None:
        count = 0
        while True:
            with kvstore.open(path) as store, store.snapshot() as snapshot:
                for key in store:
                    store.get(key)
                    snapshot.get(key)
                    count += 1
                    say(0, count)
                count += 1
                say(0, count)

    return work


def load(path: Path, dump: Path) -> Callable[[Say], None]:
    """Work that loads a dump with the command, into a new store or one that is there."""

    def work(say: Say) -> None:
        from kvstore_cli.main import main

        with contextlib.suppress(SystemExit):
            say(0, 0)
            assert main(["load", "--merge", str(path), str(dump)]) == 0

    return work
