"""Laying states before judges: processes of their own, of which one may die of a state without the others noticing."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.crash_states.judge import Answer, Request
from tests.crash_states.medium import Medium
from tests.crash_states.recording import Hint, Hints, Recording
from tests.crash_states.states import Folder, State, build
from tests.crash_states.workload import STORE

_PATIENCE_SECONDS = 60
_MEMORY = Path("/dev/shm")
"""A folder in memory: what a judge flushes there costs nothing."""
_INODES = struct.Struct("=QQ")
_RING_INODES_AT = 8
_THOROUGH_ONE_IN = 8
_JUDGES = 2
_FAULTS_KEPT = 10


@dataclass
class Verdict:
    """What became of the states: how many of each fault there were; of the first ones also the state's name, and what was
    found; how many acknowledged steps of all the writers together were missing from a state at the most.
    """

    states: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    steps_lost: int = 0

    def __str__(self) -> str:
        said = (
            f"{self.states} states, {self.kinds.total()} with a fault {dict(self.kinds)}, {self.steps_lost} steps lost"
        )
        return "\n".join([said, *self.faults])


class Judge:
    """A judge's process, replaced by another when it has died."""

    def __init__(self, told: Path) -> None:
        self._told = told
        self._start()

    def _start(self) -> None:
        self._process: Any = subprocess.Popen(
            [sys.executable, "-c", "from tests.crash_states.judge import main; main()", os.fspath(self._told)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # An engine that aborts says so, in vain: what is told of it is the signal.
            stderr=subprocess.DEVNULL,
        )

    @property
    def number(self) -> int:
        """The process's."""
        number: int = self._process.pid
        return number

    def ask(self, request: Request) -> Answer:
        """What the judge says, or that it has died of the question."""
        process = self._process
        ready: object = True
        with contextlib.suppress(EOFError, BrokenPipeError):
            process.stdin.write(pickle.dumps(request))
            process.stdin.flush()
            ready = select.select([process.stdout], [], [], _PATIENCE_SECONDS)[0]
            if ready:
                answer: Answer = pickle.load(process.stdout)
                return answer
            process.kill()
        self.end()
        self._start()
        return Answer("died" if ready else "hung", f"the process ended with {process.returncode}", {})

    def end(self) -> None:
        """Let it go."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def try_all(recording: Recording, medium: Medium, states: list[State], keep: Path) -> Verdict:
    """Lay the states before judges. The first ones with a fault are put into the folder ``keep``."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as base:
        told = Path(base) / "history"
        told.write_bytes(pickle.dumps(recording.history))
        session = _Session(recording, build(medium, states), keep, Verdict(len(states)))
        judges = [Judge(told) for _ in range(_JUDGES)]
        try:
            with ThreadPoolExecutor(_JUDGES) as threads:
                for done in [threads.submit(session.sit, judge, Path(base) / str(judge.number)) for judge in judges]:
                    done.result()
        finally:
            for judge in judges:
                judge.end()
    return session.verdict


class _Session:
    """The cases that several judges take in turn, and what comes of them."""

    def __init__(
        self, recording: Recording, cases: Iterator[tuple[State, Folder]], keep: Path, verdict: Verdict
    ) -> None:
        self._recording = recording
        self._cases = cases
        self._keep = keep
        self._lock = threading.Lock()
        self.verdict = verdict

    def sit(self, judge: Judge, place: Path) -> None:
        """Have one judge take cases until there are no more; its states are laid out at the place."""
        while True:
            with self._lock:
                case = next(self._cases, None)
            if case is None:
                return
            state, folder = case
            lay_out(state, folder, self._recording.hints, place)
            answer = judge.ask(Request(os.fspath(place), state.demand, state.digest % _THOROUGH_ONE_IN == 0))
            shutil.rmtree(place)
            with self._lock:
                self._note(state, folder, answer)

    def _note(self, state: State, folder: Folder, answer: Answer) -> None:
        verdict = self.verdict
        lost = sum(max(0, state.demand.acknowledged[writer] - count) for writer, count in answer.steps.items())
        verdict.steps_lost = max(verdict.steps_lost, lost)
        if answer.fault is not None:
            verdict.kinds[answer.fault] += 1
            if len(verdict.faults) < _FAULTS_KEPT:
                kept = self._keep / str(len(verdict.faults))
                lay_out(state, folder, self._recording.hints, kept)
                verdict.faults.append(f"{answer.fault}: {state.name}: {answer.detail} (kept in {kept})")


def lay_out(state: State, folder: Folder, hints: Hints, place: Path) -> None:
    """Put a state's files into the place, which is not there yet; beside them companions that are old, from later on, damaged,
    or missing, as drawn by the state's digest.
    """
    place.mkdir(parents=True)
    for name, content in folder.items():
        (place / name).write_bytes(content)
    rng = random.Random(state.digest)
    for suffix, kept in hints.items():
        hint = _hint(kept, rng)
        if not hint.length:
            continue
        content: bytes | bytearray = hint.beginning
        if suffix == "-ring" and STORE in folder and len(content) > _RING_INODES_AT + _INODES.size:
            # Or it would be another file's, and not believed in any case.
            found = (place / STORE).stat()
            content = bytearray(content)
            _INODES.pack_into(content, _RING_INODES_AT, found.st_dev, found.st_ino)
        with (place / (STORE + suffix)).open("wb") as file:
            file.write(content)
            file.truncate(hint.length)


def _hint(kept: list[Hint], rng: random.Random) -> Hint:
    hint = rng.choice(kept)
    match rng.randrange(6):
        case 0:
            return Hint(0, b"")
        case 1:
            return Hint(rng.randrange(hint.length), hint.beginning)
        case 2:
            return Hint(hint.length, rng.randbytes(1 << 16))
        case 3:
            torn = bytearray(hint.beginning)
            for at in rng.choices(range(0, len(torn), 512), k=20):
                torn[at : at + 512] = bytes(len(torn[at : at + 512]))
            return Hint(hint.length, bytes(torn))
        case _:
            return hint
