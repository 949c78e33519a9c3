"""`kill -9`: no acknowledged write is lost, none is half there, and the store opens again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

import kvstore
from tests.conftest import ROOT

KEYS = 40
ROUNDS = 50

WRITER = """
import os, sys, threading, kvstore

path, durability, start, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = kvstore.open(path, durability=durability)

def write(mine):
    number = start
    while True:
        number += 1
        if number % 7 == 0:
            store.set_many({key: [number] * 300 for key in mine})
            done = " ".join(map(str, mine))
        elif number % 11 == 0:
            key = mine[number % len(mine)]
            store.delete(key)
            store.add(key, [number] * 300)
            done = str(key)
        else:
            key = mine[number % len(mine)]
            store[key] = [number] * 300
            done = str(key)
        # One call, so that lines of several threads don't mix.
        os.write(1, f"{number} {done}\\n".encode())

keys = range(int(sys.argv[5]))
for index in range(threads):
    threading.Thread(target=write, args=(keys[index::threads],)).start()
"""


def killed_while_writing(path, durability, start, threads, rng):
    """Let a process write until it is killed; what it has acknowledged, as the latest number of each key."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), durability, str(start), str(threads), str(KEYS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as writer:
        lines = [writer.stdout.readline() for _ in range(rng.randrange(1, 40))]
        time.sleep(rng.random() * 0.01)
        writer.send_signal(signal.SIGKILL)
        *rest, cut = writer.stdout.read().split(b"\n")
        assert cut == b""
    assert writer.returncode == -signal.SIGKILL
    acknowledged = {}
    for line in (*lines, *rest):
        number, *keys = map(int, line.split())
        for key in keys:
            acknowledged[key] = number
    return acknowledged


@pytest.mark.parametrize(
    ("durability", "threads", "rounds"),
    [("full", 1, ROUNDS - 30), ("full", 4, 10), ("relaxed", 1, 10), ("none", 2, 10)],
)
def test_a_killed_writer_loses_nothing_that_was_acknowledged(store_path, durability, threads, rounds):
    rng = random.Random(f"{durability} {threads}")
    start, expected = 0, {}
    for _ in range(rounds):
        acknowledged = killed_while_writing(store_path, durability, start, threads, rng)
        expected |= acknowledged
        with kvstore.open(store_path) as store:
            found = {key: value[0] for key, value in store.items()}
            assert all(value == [value[0]] * 300 for value in store.values())
            newest = max(acknowledged.values())
            for key, number in expected.items():
                # What was under way when it was killed may be there or not.
                assert number <= found.get(key, newest + 1) <= newest + threads
            expected = found
            start = max(newest, *found.values()) + 1
            store["written after"] = start
            assert store["written after"] == start
            del store["written after"]
            assert store.stats().records == len(found)


CREATOR = """
import itertools, os, signal, sys
import kvstore

path = sys.argv[1]

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
    def trace(frame, event, arg):
        if not frame.f_code.co_filename.startswith(os.path.dirname(kvstore.__file__)):
            return None
        if event == "line" and next(left) == 0:
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


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.torture)])
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
    assert int(done.stdout) > 60
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
