"""A power cut at any moment: whatever the medium has kept, what was acknowledged is there, and nothing is half there.

Real workloads are recorded call by call, and the states that they can leave on a medium that keeps its word (see
``tests/crash_states/medium.py``) are opened, one by one. On media that don't keep it, and with weaker durability, the same
tests find losses: that is how it is known that they would find one.
"""

from __future__ import annotations

import random
import shutil

import pytest

from tests.crash_states.court import try_all
from tests.crash_states.history import made
from tests.crash_states.medium import Medium, Rules
from tests.crash_states.recording import record
from tests.crash_states.states import choose

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

KEEPS_ITS_WORD = Rules()


def tried(place, seed, durability, count, rules=KEEPS_ITS_WORD):
    """What became of so many states of a workload."""
    recording = record(made(seed, durability), place)
    medium = Medium(recording.journal, rules)
    states = choose(recording.history, medium, count, random.Random(seed))
    assert len(states) >= count
    return try_all(recording, medium, states, place / "kept")


def test_after_a_power_cut_all_that_was_acknowledged_is_there_and_nothing_is_half_there(tmp_path):
    verdict = tried(tmp_path, 1, "full", 2_000)
    assert not verdict.faults, str(verdict)
