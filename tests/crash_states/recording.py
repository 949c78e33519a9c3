"""A history as it was played: the journal of its calls, and the companion files that were beside the store meanwhile."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.crash_states import trace
from tests.crash_states.history import History
from tests.crash_states.journal import HINTS, Journal


@dataclass(frozen=True)
class Recording:
    """``hints`` is the folder in which ``0-ring``, ``0-lock``, ``1-ring`` and so on are."""

    history: History
    journal: Journal
    hints: Path


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
    return Recording(history, Journal(calls, folder, marks, before), hints)
