"""Every key is one register: what threads and processes do to it can be told as if done one after another."""

from __future__ import annotations

import multiprocessing
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore.store
from tests import policies
from tests.histories import (
    HANDLES,
    TINY,
    FillsWithoutTheCommit,
    LooksAtNoMark,
    check,
    heard_of,
    live_and_die,
    played_by_processes,
    played_by_threads,
)
from tests.linearizability import (
    ABSENT,
    MODEL,
    NEVER,
    UNKNOWN,
    Operation,
    by_trial,
    is_linearizable,
    told,
    violations,
)
from tests.threads import PATIENCE_SECONDS

# -- the checker -----------------------------------------------------------------------------------


def operations(*lines):
    """Operations on one key from ``(start, end, kind, argument, result)``."""
    return [Operation(start, end, "key", *what) for start, end, *what in lines]


LINEARIZABLE = {
    "nothing": [],
    "one after another": [(0, 1, "set", 5, None), (2, 3, "get", None, 5)],
    "a read during a write sees the old value": [(0, 9, "set", 5, None), (1, 2, "get", None, None)],
    "a read during a write sees the new value": [(0, 9, "set", 5, None), (1, 2, "get", None, 5)],
    "a read that began before a write": [(0, 9, "get", None, None), (1, 2, "set", 5, None)],
    "what touches overlaps": [(0, 1, "set", 5, None), (1, 2, "get", None, None)],
    "two writes in the order that the reads need": [
        (0, 9, "set", 5, None),
        (0, 9, "set", 6, None),
        (10, 11, "get", None, 5),
    ],
    "one of two wins": [(0, 9, "add", 5, False), (0, 9, "add", 6, True), (10, 11, "get", None, 6)],
    "increments at once": [(0, 9, "incr", 1, 2), (0, 9, "incr", 1, 1), (0, 9, "incr", 1, 3)],
    "a swap and what it took": [(0, 1, "set", 5, None), (2, 9, "swap", 6, 5), (3, 4, "get", None, 6)],
    "compare and set, and lose": [
        (0, 1, "set", 5, None),
        (2, 9, "compare_and_set", (5, 6), True),
        (2, 9, "compare_and_set", (5, 7), False),
        (10, 11, "get", None, 6),
    ],
    "deleted by one of two": [
        (0, 1, "set", 5, None),
        (2, 9, "delete", None, True),
        (2, 9, "pop", None, None),
        (3, 4, "in", None, False),
    ],
    "a write that never returned took place": [(0, NEVER, "set", 5, UNKNOWN), (10, 11, "get", None, 5)],
    "a write that never returned did not": [(0, NEVER, "set", 5, UNKNOWN), (10, 11, "get", None, None)],
    "a write that never returned took place late": [
        (0, NEVER, "set", 5, UNKNOWN),
        (1, 2, "set", 6, None),
        (3, 4, "get", None, 6),
        (5, 6, "get", None, 5),
    ],
}
NOT_LINEARIZABLE = {
    "a stale read": [(0, 1, "set", 5, None), (2, 3, "get", None, None)],
    "a read back in time": [
        (0, 9, "set", 5, None),
        (1, 2, "get", None, 5),
        (3, 4, "get", None, None),
    ],
    "a value from the future": [(0, 1, "get", None, 5), (2, 3, "set", 5, None)],
    "a value out of nowhere": [(0, 9, "set", 5, None), (1, 2, "get", None, 6)],
    "a lost update": [(0, 9, "incr", 1, 1), (0, 9, "incr", 1, 1)],
    "two winners": [(0, 9, "add", 5, True), (0, 9, "add", 6, True)],
    "two readers who disagree on the order": [
        (0, 9, "set", 5, None),
        (0, 9, "set", 6, None),
        (1, 2, "get", None, 5),
        (3, 4, "get", None, 6),
        (5, 6, "get", None, 5),
    ],
    "a deleted value that comes back": [
        (0, 1, "set", 5, None),
        (2, 3, "delete", None, True),
        (4, 5, "get", None, 5),
    ],
    "an unfinished write before its start": [(0, 1, "get", None, 5), (2, NEVER, "set", 5, UNKNOWN)],
    "an unfinished write, undone": [
        (0, NEVER, "set", 5, UNKNOWN),
        (1, 2, "get", None, 5),
        (3, 4, "get", None, None),
    ],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_the_checker_accepts(name):
    history = operations(*LINEARIZABLE[name])
    assert is_linearizable(history)
    assert by_trial(history)


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_the_checker_refuses(name):
    history = operations(*NOT_LINEARIZABLE[name])
    assert not is_linearizable(history)
    assert not by_trial(history)


def test_the_checker_judges_each_key_alone_and_shows_what_was_done_to_it():
    good = Operation(0, 1, "good", "set", 5, None)
    bad = Operation(10, 11, "bad", "get", None, 5)
    assert violations([good, bad]) == [[bad]]
    with pytest.raises(AssertionError, match=r"'bad'(?s:.*)0 \.\. +1  get\(None\) -> 5"):
        check([good, bad])
    assert told([bad]) == f"{0:>12} .. {1:>12}  get(None) -> 5"
    check([good])


ARGUMENTS = {
    "incr": st.integers(1, 2),
    "compare_and_set": st.tuples(st.sampled_from([ABSENT, 1, 2]), st.integers(1, 2)),
}
CALLS = st.sampled_from(sorted(MODEL)).flatmap(
    lambda kind: st.tuples(st.just(kind), ARGUMENTS.get(kind, st.integers(1, 2)))
)


@st.composite
def any_history(draw):
    """A few calls at once, with results that are often wrong."""
    history = []
    for kind, argument in draw(st.lists(CALLS, max_size=5)):
        start = draw(st.integers(0, 6))
        if draw(st.integers(0, 9)) == 0:
            history.append(Operation(start, NEVER, "key", kind, argument, UNKNOWN))
        else:
            result, _ = MODEL[kind](draw(st.sampled_from([ABSENT, 1, 2])), argument)
            history.append(Operation(start, start + draw(st.integers(0, 4)), "key", kind, argument, result))
    return history


@given(any_history())
@settings(max_examples=200)
def test_the_checker_agrees_with_trying_every_order(history):
    assert is_linearizable(history) == by_trial(history)


@given(st.lists(st.tuples(CALLS, st.integers(0, 30), st.integers(0, 30)), max_size=40), st.randoms())
def test_the_checker_accepts_whatever_was_done_one_after_another(calls, rng):
    state, history = ABSENT, []
    for moment, ((kind, argument), before, behind) in enumerate(calls):
        result, state = MODEL[kind](state, argument)
        start, end = 10 * moment - before, 10 * moment + behind
        history.append(Operation(start, end, "key", kind, argument, result))
    rng.shuffle(history)
    assert is_linearizable(history)


# -- the store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", policies.NAMED)
def test_the_histories_of_threads_are_linearizable(store_path, policy):
    handles = [{**how, "policy": policy} for how in HANDLES]
    check(played_by_threads(store_path, 160, handles=handles, seed=1))


def test_the_histories_of_threads_that_share_one_handle_are_linearizable(store_path):
    check(played_by_threads(store_path, 300, threads=6, handles=[{"cache_size": TINY}], seed=2))


def test_the_histories_of_processes_are_linearizable(store_path):
    check(played_by_processes(store_path, 500, processes=3, seed=3))


def test_the_histories_of_processes_with_threads_are_linearizable(store_path):
    check(played_by_processes(store_path, 300, processes=2, threads=2, seed=4))


def test_the_histories_of_processes_with_one_handle_each_are_linearizable(store_path):
    check(played_by_processes(store_path, 300, processes=2, handles=[{"cache_size": 1 << 20}], seed=5))


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
def test_the_histories_of_threads_and_processes_are_linearizable_however_long(store_path, seed):
    policy = sorted(policies.NAMED)[seed % 4]
    handles = [{**how, "policy": policy} for how in HANDLES]
    check(played_by_threads(store_path, 700, handles=handles, seed=seed))
    store_path.unlink()
    check(played_by_processes(store_path, 700, processes=4, handles=handles, seed=seed))
    store_path.unlink()
    check(played_by_processes(store_path, 600, processes=2, threads=3, handles=handles, seed=seed))


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(4, 30))])
def test_a_killed_process_has_done_its_last_write_or_not(store_path, seed):
    spawn = multiprocessing.get_context("spawn")
    rng = random.Random(seed)
    pipes, children = [], []
    kvstore.open(store_path).close()
    for name in (1, 2):
        receiver, sender = spawn.Pipe(duplex=False)
        child = spawn.Process(target=live_and_die, args=(sender, store_path, name, seed, HANDLES[:2]), daemon=True)
        child.start()
        sender.close()
        pipes.append(receiver)
        children.append(child)
    for pipe in pipes:
        assert pipe.poll(PATIENCE_SECONDS)
    history = []
    time.sleep(rng.random() * 0.05)
    for child, pipe in zip(children, pipes, strict=True):
        child.kill()
        history += heard_of(pipe)
        child.join(PATIENCE_SECONDS)
    with kvstore.open(store_path) as store:
        for key in {operation.key for operation in history if operation.key != "ready"}:
            start = time.monotonic_ns()
            value = store.get(key)
            history.append(Operation(start, time.monotonic_ns(), key, "get", None, value))
    check(history)


# -- bugs that it would find -----------------------------------------------------------------------


@pytest.mark.parametrize("bug", [FillsWithoutTheCommit, LooksAtNoMark])
def test_a_memory_tier_with_a_bug_is_found_out_among_threads(store_path, monkeypatch, bug):
    monkeypatch.setattr(kvstore.store, "MemoryTier", bug)
    assert is_found_out(lambda seed: played_by_threads(store_path, 200, seed=seed))


@pytest.mark.parametrize("bug", [FillsWithoutTheCommit, LooksAtNoMark])
def test_a_memory_tier_with_a_bug_is_found_out_among_processes(store_path, bug):
    assert is_found_out(lambda seed: played_by_processes(store_path, 200, seed=seed, tier=bug))


def is_found_out(play):
    """Whether the checker finds anything, given several chances."""
    return any(violations(play(seed)) for seed in range(10))
