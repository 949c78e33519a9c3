"""`kill -9`: no acknowledged write is lost, none is half there, and the store opens again."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time

import pytest

import kvstore
from kvstore import dump
from kvstore.backends import lmdb_env
from tests.conftest import ROOT
from tests.crash_states.history import contents
from tests.crash_states.judge import content_of
from tests.forks import WARNING
from tests.other_process import OtherProcess
from tests.victims import Victim, kill_all, load, read, steps_of, write

pytestmark = pytest.mark.filterwarnings(WARNING)


@pytest.fixture(autouse=True)
def nobody_left():
    """No victim outlives its test."""
    yield
    kill_all()


def quick_and_full(**cases):
    """Parameters for each case by its name: its own, then how often something is killed in every run, and in the long one."""
    parameters = []
    for name, (*own, quick, full) in cases.items():
        parameters += [
            pytest.param(*own, quick, id=name),
            pytest.param(*own, full, id=f"{name}, long", marks=pytest.mark.torture),
        ]
    return parameters


def stores(folder, rounds):
    """For each round its number and the store to work on: a new one now and then, so that they stay small."""
    return ((number, folder / f"{number // 25}.kv") for number in range(rounds))


def of_writer(content, writer):
    return {place: value for place, value in content.items() if place[2][0] == writer}


def require_whole(path, victims, seed, before):
    """Open what killed writers have left, and write to it; what it holds.

    ``victims`` are pairs of a victim and its writers by number; what a writer was at may be there or not.
    """
    assert path.exists() or not any(victim.said for victim, _ in victims)
    with kvstore.open(path) as store:
        found = content_of(store)
        for victim, writers in victims:
            for number, writer in writers.items():
                done = victim.said.get(number, 0)
                steps = itertools.islice(steps_of(seed, writer), done + 1)
                assert of_writer(found, writer) in contents(steps, of_writer(before, writer))[done:], (writer, done)
        assert store.verify().ok
        assert store.stats().oldest_reader_lag == 0
        store["written after"] = seed
        assert store.pop("written after") == seed
    return found


def killed(rng, victims, after):
    """Wait until so many things were said, and a moment more, then kill some at a time; who is left must go on."""
    for _ in range(after):
        rng.choice(victims).hear()
    left = list(victims)
    while left:
        time.sleep(rng.random() * 0.003)
        rng.shuffle(left)
        for victim in left:
            victim.hear()
        for _ in range(rng.randint(1, len(left))):
            left.pop().kill()


@pytest.mark.parametrize(
    ("durability", "threads", "caring", "rounds"),
    quick_and_full(
        one=("full", 1, False, 10, 400),
        threads=("full", 4, False, 6, 300),
        caring=("full", 1, True, 6, 250),
        relaxed=("relaxed", 1, False, 3, 100),
        none=("none", 2, False, 3, 100),
    ),
)
def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path, durability, threads, caring, rounds):
    rng = random.Random(f"{durability} {threads}")
    writers = {number: f"w{number}" for number in range(threads)}
    content = {}
    for seed, path in stores(tmp_path, rounds):
        if not path.exists():
            content = {}
        victim = Victim(write(path, durability, seed, writers, caring=caring))
        killed(rng, [victim], rng.randrange(40))
        content = require_whole(path, [(victim, writers)], seed, content)
        backup = path.with_suffix(".backup")
        if backup.exists():
            with kvstore.open(backup, readonly=True) as store:
                assert store.verify().ok


@pytest.mark.parametrize("rounds", quick_and_full(several=(8, 400)))
def test_processes_that_are_killed_hold_up_none_of_the_others(tmp_path, rounds):
    rng = random.Random(rounds)
    content = {}
    for seed, path in stores(tmp_path, rounds):
        if not path.exists():
            content = {}
        writers = [{0: f"p{number}", 1: f"q{number}"} for number in range(3)]
        victims = [(Victim(write(path, "full", seed, mine)), mine) for mine in writers]
        victims += [(Victim(read(path)), {}) for _ in range(2)]
        killed(rng, [victim for victim, _ in victims], rng.randrange(60))
        content = require_whole(path, victims, seed, content)


@pytest.mark.parametrize("rounds", quick_and_full(creation=(8, 300)))
def test_a_creation_by_several_processes_that_are_killed_leaves_no_file_or_a_whole_one(tmp_path, rounds):
    rng = random.Random(rounds)
    for seed in range(rounds):
        path = tmp_path / f"{seed}.kv"
        victims = [(Victim(write(path, "full", seed, {0: f"p{number}"})), {0: f"p{number}"}) for number in range(3)]
        time.sleep(rng.random() * 0.01)
        for victim, _ in victims:
            victim.kill()
        require_whole(path, victims, seed, {})


@pytest.mark.parametrize(("there", "rounds"), quick_and_full(new=(False, 3, 75), merging=(True, 3, 75)))
def test_a_load_that_is_killed_has_loaded_all_or_nothing(tmp_path, there, rounds):
    rng = random.Random(rounds)
    source, target = tmp_path / "dump.jsonl", tmp_path / "target.kv"
    loaded = {("loaded", number): [number, "x" * 100] for number in range(3_000)}
    kept = {("kept", number): number for number in range(50)}
    with kvstore.open(tmp_path / "source.kv", durability="none") as store, source.open("wb") as file:
        store.set_many(loaded)
        dump.write(store, file)
    begun = time.monotonic()
    assert Victim(load(tmp_path / "whole.kv", source)).ended()
    duration = time.monotonic() - begun
    for _ in range(rounds):
        if there:
            with kvstore.open(target) as store:
                store.set_many(kept)
        victim = Victim(load(target, source))
        time.sleep(rng.random() * duration)
        victim.kill()
        if there or target.exists():
            with kvstore.open(target, create=False) as store:
                found = dict(store.items())
                assert found in ([kept, kept | loaded] if there else [loaded])
                assert store.verify().ok
            for left in tmp_path.glob("target.kv*"):
                left.unlink()


# A line that is run over and over, as for each entry of the ring, counts three times: the rounds of a loop leave the same.
CREATOR = """
import collections, itertools, os, signal, sys
import kvstore

path = sys.argv[1]
kvstore.open(path + ".loaded").close()  # whatever is imported for it is, so that no process is killed importing

def in_a_fork(function):
    child = os.fork()
    if not child:
        try:
            function()
        except BaseException as error:
            os.write(2, f"{error!r}".encode())
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def killed_at(line):
    left = itertools.count(line, -1)
    rounds = collections.Counter()
    def trace(frame, event, arg):
        if not frame.f_code.co_filename.startswith(os.path.dirname(kvstore.__file__)):
            return None
        if event == "line":
            rounds[frame.f_code, frame.f_lineno] += 1
            if rounds[frame.f_code, frame.f_lineno] <= 3 and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    kvstore.open(path).close()

def open_what_is_there():
    if os.path.lexists(path):
        kvstore.open(path, create=False).close()
    with kvstore.open(path) as store:
        assert len(store) == 0
        store["a"] = 1
    with kvstore.open(path) as store:
        assert store["a"] == 1

step = int(sys.argv[2])
for line in itertools.count(0, step):
    status = in_a_fork(lambda: killed_at(line))
    assert status in (0, signal.SIGKILL), status
    assert in_a_fork(open_what_is_there) == 0, line
    for made in (path, path + "-lock", path + "-ring"):
        os.unlink(made)
    if status == 0:
        break
print(line)
"""


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.torture)])
def test_a_creation_that_is_killed_at_any_line_leaves_no_file_or_a_whole_one(store_path, step):
    done = subprocess.run(
        [sys.executable, "-c", CREATOR, str(store_path), str(step)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert int(done.stdout) > 600
    for made in ("", "-lock", "-ring"):
        store_path.with_name(f"store.kv.loaded{made}").unlink()
    # Whatever a killed process leaves behind stands under a name that nobody opens.
    assert all(left.name.startswith("store.kv.new-") for left in store_path.parent.iterdir())


def test_a_killed_reader_holds_nothing_up(store_path):
    reader = (
        "import sys, time, kvstore; items = iter(kvstore.open(sys.argv[1])); next(items); "
        "print(flush=True); time.sleep(600)"
    )
    with kvstore.open(store_path) as store:
        store.set_many((number, bytes(1_000)) for number in range(100))
    with subprocess.Popen([sys.executable, "-c", reader, str(store_path)], cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"\n"
        with kvstore.open(store_path) as store:
            store["a"] = store["b"] = 1
            assert store.stats().oldest_reader_lag >= 2
        child.kill()
    with kvstore.open(store_path) as store:
        store["a"] = 2
        assert store.stats().oldest_reader_lag == 0


def lock_file_before_its_first_commit(path):
    """The content of a lock file that was made, but not told yet what the last commit was."""
    with kvstore.open(path, durability="none") as store:
        for number in range(1_000):
            store["a"] = number
        content = path.with_name("store.kv-lock").read_bytes()
        with store.snapshot() as snapshot:
            last = snapshot._reading.id.to_bytes(8, sys.byteorder)
    assert content.count(last) == 1
    return content.replace(last, bytes(8))


@pytest.mark.parametrize("left", ["nothing", "zeros", "no commits"])
def test_a_process_that_is_killed_while_it_makes_the_lock_file_misleads_none_that_waits_for_it(
    store_path, monkeypatch, left
):
    unfinished = lock_file_before_its_first_commit(store_path)
    content = {"nothing": b"", "zeros": bytes(len(unfinished)), "no commits": unfinished}[left]
    lock = store_path.with_name("store.kv-lock")
    lock.write_bytes(content)
    # One that has found this before, and holds the lock that it has waited for.
    with OtherProcess(
        "import fcntl", f"file = open({str(lock)!r}, 'r+b'); fcntl.lockf(file, fcntl.LOCK_SH, 1, 0)"
    ) as other:
        with monkeypatch.context() as patch:
            patch.setattr(lmdb_env, "_LOCKS_SECONDS", 0.0)
            with pytest.raises(kvstore.KvstoreError):
                kvstore.open(store_path)
        lock.write_bytes(content)
        monkeypatch.setattr(lmdb_env.time, "sleep", lambda _: other("fcntl.lockf(file, fcntl.LOCK_UN, 1, 0)"))
        with kvstore.open(store_path) as store:
            assert store["a"] == 999
            store["a"] = 1_000
    with kvstore.open(store_path) as store:
        assert store["a"] == 1_000
        assert store.verify().ok
