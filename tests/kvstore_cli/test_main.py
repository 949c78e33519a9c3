"""What the shell sees: exit codes, one line for an error, and quiet ends."""

from __future__ import annotations

import os
import shlex
import signal
import time
from pathlib import Path
from subprocess import PIPE

import pytest

import kvstore
from tests.threads import PATIENCE_SECONDS

READING = [("ls",), ("ls", "--long"), ("get", "a"), ("stats",), ("stats", "--json"), ("dump",)]


def test_without_arguments_it_shows_the_help(run):
    alone, asked = run(), run("--help")
    assert alone == asked
    assert alone.code == 0
    assert "Commands:" in alone.out.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("frob",),
        ("--frob",),
        ("get",),
        ("get", "s"),
        ("get", "s", "k", "x"),
        ("ls", "s", "--frob"),
        ("del", "s"),
    ],
)
def test_a_wrong_call_is_exit_code_2_and_one_line(fails, arguments):
    assert "--help" in fails(*arguments, code=2)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_store_that_is_not_there_is_an_error_and_is_not_made(fails, tmp_path, command):
    name, *rest = command
    assert "no such store" in fails(name, tmp_path / "none.kv", *rest)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("del", "a"), *READING], ids=" ".join)
def test_what_is_no_store_is_an_error_that_names_it(fails, tmp_path, command):
    name, *rest = command
    (tmp_path / "text.kv").write_text("not a store\n" * 1000)
    assert "text.kv" in fails(name, tmp_path / "text.kv", *rest)
    assert str(tmp_path) in fails(name, tmp_path, *rest)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_leaves_the_file_as_it_is(run, filled, command):
    before = filled.read_bytes()
    name, *rest = command
    assert run(name, filled, *rest).code == 0
    assert filled.read_bytes() == before


def test_an_error_shows_no_character_that_a_terminal_obeys(fails, tmp_path):
    error = fails("ls", tmp_path / "\x1b[2J\u202e\nx")
    assert "\\u001b[2J\\u202e" in error
    assert "\x1b" not in error


@pytest.mark.parametrize("error", [ValueError("broken\nin two"), MemoryError(), RecursionError("deep")])
def test_an_error_that_nobody_expected_is_one_line_too(fails, filled, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(kvstore, "open", broken)
    assert type(error).__name__ in fails("ls", filled)


def test_an_error_of_the_system_names_the_file(fails, tmp_path, filled):
    assert fails("dump", filled, tmp_path / "no" / "d") == f"{tmp_path}/no/d: No such file or directory"
    assert fails("load", tmp_path / "new.kv", tmp_path / "no") == f"{tmp_path}/no: No such file or directory"


def test_python_m_runs_the_same_command(start, filled):
    process = start("get", filled, "name", stdout=PIPE, stderr=PIPE)
    assert process.communicate() == (b'"Ada"\n', b"")
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["ls", "dump"])
@pytest.mark.parametrize("taken", [0, 1, 100_000])
def test_a_reader_that_goes_away_is_no_reason_to_complain(start, large, command, taken):
    process = start(command, large, stdout=PIPE, stderr=PIPE)
    process.stdout.read(taken)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_a_reader_that_is_gone_before_a_short_answer_is_no_reason_either(start, filled):
    ours, theirs = os.pipe()
    os.close(ours)
    process = start("get", filled, "a", stdout=theirs, stderr=PIPE)
    os.close(theirs)
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_nobody_to_complain_to_is_no_reason_to_complain(start, filled):
    ours, theirs = os.pipe()
    os.close(ours)
    process = start("get", filled, "none", stdout=PIPE, stderr=theirs)
    os.close(theirs)
    assert process.wait() == 1


def test_a_full_disk_under_the_output_is_an_error(start, large):
    with Path("/dev/full").open("wb") as full:
        process = start("ls", large, stdout=full, stderr=PIPE)
        assert process.stderr.read() == b"Error: No space left on device\n"
        assert process.wait() == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_never_become_the_store(shell, filled, closed):
    assert shell(f"set {filled} a 2 {closed}").returncode == 0
    assert shell(f"get {filled} none {closed}").returncode == 1
    assert shell(f"set {filled} -- -- {closed}").returncode == 2
    with kvstore.open(filled, readonly=True) as store:
        assert dict(store) == {
            "a": 2,
            "name": "Ada",
            "b/1": [1.5, None],
            "b/2": b"\x00\xff",
            5: "int",
            ("u", 5): (1,),
        }


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux what a file descriptor is")
@pytest.mark.parametrize(("closed", "taken"), [("<&-", {0}), (">&-", {1}), ("2>&-", {2}), ("<&- >&- 2>&-", {0, 1, 2})])
def test_a_closed_standard_stream_is_taken_before_a_store_could_be(shell, tmp_path, closed, taken):
    program = f"""
import os, pathlib
from kvstore_cli.main import main
main(["--help"])
nothing = [number for number in range(3) if os.readlink(f"/proc/self/fd/{{number}}") == os.devnull]
pathlib.Path({str(tmp_path / "taken")!r}).write_text(repr(set(nothing)))
"""
    shell(closed, start=f"-c {shlex.quote(program)}")
    assert (tmp_path / "taken").read_text() == repr(taken)


def test_a_closed_stream_that_is_needed_is_an_error(shell, filled):
    done = shell(f"get {filled} a >&-")
    assert (done.returncode, done.stderr) == (1, b"Error: standard output is closed\n")
    done = shell(f"load {filled} --merge <&-")
    assert (done.returncode, done.stderr) == (1, b"Error: standard input is closed\n")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
class TestInterrupted:
    def test_a_dump_ends_quietly_and_leaves_no_file(self, start, large, tmp_path, number, code):
        """Stopped in its midst by a target that takes nothing more."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        process = start("dump", large, pipe, stderr=PIPE)
        with pipe.open("rb") as reader:
            reader.read(10)
            process.send_signal(number)
            assert process.wait() == code
        assert process.stderr.read() == b""

    def test_a_load_ends_quietly_and_leaves_no_store(self, start, tmp_path, number, code):
        process = start("load", tmp_path / "new.kv", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        process.stdin.write(b'{"format":"kvstore dump","version":1,"namespaces":[""]}\n')
        process.stdin.write(b'{"ns":"","key":"a","value":1,"expires":null}\n')
        process.stdin.flush()
        while not list(tmp_path.glob(".new.kv.*/new.kv")):
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait() == code
        assert process.stderr.read() == b""
        assert list(tmp_path.iterdir()) == []

    def test_a_signal_ends_it_even_where_python_lets_no_exception_out(self, shell, number, code):
        program = f"""
import os, signal, time, weakref
from kvstore_cli import group, main

# Even where a shell has these tests ignore it.
signal.signal({int(number)}, signal.default_int_handler if {int(number)} == signal.SIGINT else signal.SIG_DFL)

def run(_):
    thing = set()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), {int(number)}))
    del thing
    time.sleep({PATIENCE_SECONDS})

group.run = run
raise SystemExit(main.main())
"""
        done = shell("", start=f"-c {shlex.quote(program)}")
        assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
def test_a_signal_that_the_command_was_started_to_ignore_ends_nothing(start, large, tmp_path, number):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("dump", large, pipe, ignoring=number)
    with pipe.open("rb") as reader:
        dumped = reader.read(10)
        process.send_signal(number)
        dumped += reader.read()
    assert process.wait() == 0
    assert b'\n{"count":20000,' in dumped
