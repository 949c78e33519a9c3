"""A history as it was played: the journal of its calls, and the companion files that were beside the store meanwhile."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT
from tests.crash_states import trace
from tests.crash_states.history import History
from tests.crash_states.journal import HINTS, Journal


class Hint(NamedTuple):
    """What a companion file held at a time: its length in bytes, and its beginning, after which there are zeros."""

    length: int
    beginning: bytes


Hints = dict[str, list[Hint]]


@dataclass(frozen=True)
class Recording:
    """``hints``: what the files of each ending of ``HINTS`` held at several times."""

    history: History
    journal: Journal
    hints: Hints


def record(history: History, place: Path) -> Recording:
    """Play the history on the store in the folder ``store`` of the place, where one may be already."""
    folder, hints, told = place / "store", place / "hints", place / "history"
    for made in (folder, hints):
        made.mkdir(parents=True, exist_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(HINTS)}
    told.write_bytes(pickle.dumps(history))
    marks, output = place / "marks", place / "trace"
    workload = [sys.executable, "-m", "tests.crash_states.workload", *map(str, (told, folder, marks, hints))]
    done = subprocess.run(
        [*trace.command(output), *workload],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the workload failed: {done.stderr}")
    with output.open(encoding="ascii") as lines:
        calls = trace.parse(lines)
    kept = {suffix: [_hint(path) for path in sorted(hints.glob(f"*{suffix}"))] for suffix in HINTS}
    return Recording(history, Journal(calls, folder, marks, before), kept)


def _hint(path: Path) -> Hint:
    content = path.read_bytes()
    return Hint(len(content), content.rstrip(b"\0"))
