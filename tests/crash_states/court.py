"""Laying states before judges: processes of their own, of which one may die of a state without the others noticing."""

from __future__ import annotations

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
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.conftest import ROOT
from tests.crash_states.judge import Answer, Request
from tests.crash_states.medium import Medium
from tests.crash_states.recording import Recording
from tests.crash_states.states import Folder, State, build
from tests.crash_states.workload import STORE

_PATIENCE_SECONDS = 60
_MEMORY = Path("/dev/shm")
"""A folder in memory: what a judge flushes there costs nothing."""
_INODES = struct.Struct("=QQ")
_RING_INODES_AT = 8
_THOROUGH_ONE_IN = 8


@dataclass
class Verdict:
    """What became of the states: each fault with its state's name and what was found; where the states with a fault are
    kept; how many acknowledged steps of all the writers were missing at the most.
    """

    states: int = 0
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    missing_at_most: int = 0
    judges_lost: int = 0

    def __str__(self) -> str:
        lines = [f"{fault}: {name}: {detail}" for fault, name, detail in self.faults[:10]]
        return "\n".join([f"{sum(self.kinds.values())} faults in {self.states} states: {dict(self.kinds)}", *lines])


class Judge:
    """A judge's process, replaced by another when it has died. Use it as a context manager."""

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
            # An abort says so on its way; what is told of it is the signal.
            stderr=subprocess.DEVNULL,
        )

    def ask(self, request: Request) -> Answer:
        """What the judge says, or that it has died of the question."""
        process = self._process
        process.stdin.write(pickle.dumps(request))
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _PATIENCE_SECONDS)
        if ready:
            try:
                answer: Answer = pickle.load(process.stdout)
            except EOFError:
                pass
            else:
                return answer
        else:
            process.kill()
        self.end()
        status = process.returncode
        self._start()
        return Answer("died" if ready else "hung", f"the process ended with {status}", {})

    def end(self) -> None:
        """Let it go."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


def try_all(recording: Recording, medium: Medium, states: list[State], keep: Path, *, judges: int = 2) -> Verdict:
    """Lay the states before that many judges at once. Those with a fault are put into the folder ``keep``."""
    verdict = Verdict(len(states))
    cases = build(medium, states)
    lock = threading.Lock()
    raised: list[BaseException] = []

    def sit(place: Path, judge: Judge) -> None:
        try:
            while True:
                with lock:
                    case = next(cases, None)
                if case is None:
                    return
                _try(recording, case, place, judge, verdict, lock, keep)
        except BaseException as error:
            raised.append(error)

    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as base:
        told = Path(base) / "history"
        told.write_bytes(pickle.dumps(recording.history))
        threads = []
        benches = [Judge(told) for _ in range(judges)]
        try:
            for number, judge in enumerate(benches):
                threads.append(threading.Thread(target=sit, args=(Path(base) / str(number), judge)))
                threads[-1].start()
        finally:
            for thread in threads:
                thread.join()
            for judge in benches:
                judge.end()
    if raised:
        raise raised[0]
    return verdict


def _try(
    recording: Recording,
    case: tuple[State, Folder],
    place: Path,
    judge: Judge,
    verdict: Verdict,
    lock: threading.Lock,
    keep: Path,
) -> None:
    state, folder = case
    lay_out(state, folder, recording.hints, place)
    answer = judge.ask(Request(os.fspath(place), state.demand, state.digest % _THOROUGH_ONE_IN == 0))
    shutil.rmtree(place)
    with lock:
        missing = sum(max(0, state.demand.least[writer] - count) for writer, count in answer.steps.items())
        verdict.missing_at_most = max(verdict.missing_at_most, missing)
        if answer.fault is not None:
            verdict.kinds[answer.fault] += 1
            verdict.faults.append((answer.fault, state.name, answer.detail))
            if len(verdict.faults) <= 10:
                lay_out(state, folder, recording.hints, keep / f"{len(verdict.faults)}")


def lay_out(state: State, folder: Folder, hints: Path, place: Path) -> None:
    """Put a state's files into the place, which is not there yet; beside them companions that are old, from later on, damaged,
    or missing, as drawn by the state's digest.
    """
    place.mkdir(parents=True)
    for name, content in folder.items():
        (place / name).write_bytes(content)
    rng = random.Random(state.digest)
    for suffix in ("-ring", "-lock"):
        content = _hint(sorted(hints.glob(f"*{suffix}")), rng)
        if content is None:
            continue
        if suffix == "-ring" and STORE in folder and len(content) > _RING_INODES_AT + _INODES.size:
            # Or it would be another file's, and not believed in any case.
            found = (place / STORE).stat()
            _INODES.pack_into(content, _RING_INODES_AT, found.st_dev, found.st_ino)
        (place / (STORE + suffix)).write_bytes(content)


def _hint(kept: list[Path], rng: random.Random) -> bytearray | None:
    if not kept:
        return None
    content = bytearray(rng.choice(kept).read_bytes())
    match rng.randrange(6):
        case 0:
            return None
        case 1:
            return content[: rng.randrange(len(content))]
        case 2:
            return bytearray(rng.randbytes(len(content)))
        case 3:
            for _ in range(20):
                start = rng.randrange(0, len(content), 512)
                content[start : start + 512] = bytes(min(512, len(content) - start))
    return content
