"""A power cut at any moment: whatever the medium has kept, what was acknowledged is there, and nothing is half there.

Real workloads are recorded call by call, and the states that they can leave on a medium that keeps its word (see
``tests/crash_states/medium.py``) are opened, one by one. On media that don't keep it, and with weaker durability, the same
tests find losses: that is how it is known that they would find one.
"""

from __future__ import annotations

import logging
import os
import pickle
import random
import shutil
import signal
from functools import cache

import pytest

import kvstore
from tests.crash_states.court import Judge, lay_out, try_all
from tests.crash_states.history import made
from tests.crash_states.judge import Request, content_of
from tests.crash_states.medium import Medium, Rules
from tests.crash_states.recording import record
from tests.crash_states.states import build, choose
from tests.crash_states.workload import BACKUP, DUMP, STORE

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

KEEPS_ITS_WORD = Rules()
SEEDS = 12
BRIEF = 3
"""One step in so many, where few states are tried: a long workload takes longer to play, and to choose among, than they."""


def tried(recording, count, place, rules=KEEPS_ITS_WORD, among=None):
    """What becomes of so many states that a power cut can leave of a recorded workload; ``among``: states that are told by
    a word of their names, picked from this many.
    """
    medium = Medium(recording.journal, rules)
    rng = random.Random(count)
    if among is None:
        states = choose(recording.history, medium, count, rng)
    else:
        word, number = among
        states = [state for state in choose(recording.history, medium, number, rng) if word in state.name]
        states = sorted(rng.sample(states, count), key=lambda state: state.moment)
    assert len(states) == len({state.digest for state in states}) == count
    verdict = try_all(recording, medium, states, place / "kept")
    logging.getLogger(__name__).info("%s", verdict)
    return verdict


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A workload with full durability as it was recorded, each one once: the whole of it, or one step in so many."""
    return cache(lambda one_step_in=1: record(made(1, one_step_in=one_step_in), tmp_path_factory.mktemp("recorded")))


# -- what is promised ------------------------------------------------------------------------------


def test_after_a_power_cut_all_that_was_acknowledged_is_there_and_nothing_is_half_there(recorded, tmp_path):
    verdict = tried(recorded(), 2_000, tmp_path)
    assert not verdict.faults, str(verdict)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(100, 100 + SEEDS))
def test_of_many_workloads_too_all_is_there_and_nothing_half(tmp_path, seed):
    verdict = tried(record(made(seed), tmp_path), 50_000 // SEEDS + 1, tmp_path)
    assert not verdict.faults, str(verdict)


@pytest.mark.parametrize(
    ("seed", "count", "one_step_in"),
    [(2, 80, BRIEF), *(pytest.param(seed, 3_000, 1, marks=pytest.mark.torture) for seed in range(200, 204))],
)
def test_relaxed_durability_may_lose_the_last_writes_and_nothing_else(tmp_path, seed, count, one_step_in):
    verdict = tried(record(made(seed, "relaxed", one_step_in=one_step_in), tmp_path), count, tmp_path)
    assert not verdict.faults, str(verdict)
    assert verdict.steps_lost > 0


@pytest.mark.parametrize(
    ("seed", "count", "one_step_in"),
    [(3, 80, BRIEF), *(pytest.param(seed, 1_000, 1, marks=pytest.mark.torture) for seed in range(300, 308))],
)
def test_a_store_that_goes_on_after_a_power_cut_survives_the_next_one(recorded, tmp_path, seed, count, one_step_in):
    recording = recorded(one_step_in)
    rng = random.Random(seed)
    medium = Medium(recording.journal, KEEPS_ITS_WORD)
    states = choose(recording.history, medium, 300, rng)
    state, folder = next(build(medium, [rng.choice([state for state in states if state.demand.created])]))
    for copy in (BACKUP, DUMP):
        folder.pop(copy, None)
    lay_out(state, folder, recording.hints, tmp_path / "store")
    with kvstore.open(tmp_path / "store" / STORE) as store:
        left = content_of(store)
    verdict = tried(record(made(seed, before=left, one_step_in=one_step_in), tmp_path), count, tmp_path)
    assert not verdict.faults, str(verdict)


# -- these tests would find a loss -----------------------------------------------------------------


# Among the states that are drawn, where there are more losses than among the first ones.
@pytest.mark.parametrize(
    ("count", "among", "one_step_in"),
    [(80, (" of ", 600), BRIEF), pytest.param(3_000, None, 1, marks=pytest.mark.torture)],
)
@pytest.mark.parametrize(
    ("rules", "found"),
    [
        pytest.param(Rules(flushes=False), {"lost", "refused", "unsound"}, id="flushes of files mean nothing"),
        pytest.param(Rules(name_flushes=False), {"gone", "lost", "copy"}, id="flushes of folders mean nothing"),
    ],
)
def test_on_a_medium_that_does_not_keep_its_word_there_are_losses(
    recorded, tmp_path, rules, found, count, among, one_step_in
):
    verdict = tried(recorded(one_step_in), count, tmp_path, rules, among)
    assert verdict.kinds.keys() & found, str(verdict)


@pytest.mark.parametrize(
    ("count", "among", "one_step_in"),
    [(80, ("Write", 700), BRIEF), pytest.param(3_000, None, 1, marks=pytest.mark.torture)],
)
def test_on_a_medium_that_tears_sectors_there_are_losses(recorded, tmp_path, count, among, one_step_in):
    # In few states but those in which a meta page is under way, so it is these that are looked at.
    verdict = tried(recorded(one_step_in), count, tmp_path, Rules(sector=64), among)
    assert verdict.kinds.keys() & {"unsound"}, str(verdict)


@pytest.mark.parametrize(("count", "one_step_in"), [(80, BRIEF), pytest.param(3_000, 1, marks=pytest.mark.torture)])
def test_without_durability_there_are_losses(tmp_path, count, one_step_in):
    verdict = tried(record(made(1, "none", one_step_in=one_step_in), tmp_path), count, tmp_path)
    assert verdict.kinds.keys() >= {"refused", "unsound"}, str(verdict)


def test_a_judge_that_dies_of_a_state_is_replaced(recorded, tmp_path):
    recording = recorded(BRIEF)
    told = tmp_path / "history"
    told.write_bytes(pickle.dumps(recording.history))
    medium = Medium(recording.journal, KEEPS_ITS_WORD)
    state, folder = next(build(medium, choose(recording.history, medium, 1, random.Random(1))))
    judge = Judge(told)

    def asked(name):
        lay_out(state, folder, recording.hints, tmp_path / name)
        return judge.ask(Request(str(tmp_path / name), state.demand, thorough=True)).fault

    try:
        assert asked("first") is None
        os.kill(judge.number, signal.SIGSEGV)
        assert asked("second") == "died"
        assert asked("third") is None
    finally:
        judge.end()
