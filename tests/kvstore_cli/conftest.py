"""The command, run in this process for what it says, or in one of its own for pipes and signals."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM
from typing import NamedTuple

import pytest

import kvstore
from kvstore_cli.main import main
from tests.threads import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
# Buffered as with a user: unbuffered output has none of the troubles that this is about.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
ENVIRONMENT["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tools'}"


class Result(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


@pytest.fixture
def run(capsysbinary, monkeypatch):
    """run("get", path, "a", stdin=b"") -> Result"""

    def command(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([os.fspath(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return Result(code, out, err.decode())

    return command


@pytest.fixture
def fails(run):
    """As run, for what ends with exit code 1 and one line on stderr, which is returned."""

    def command(*arguments, stdin=b"", code=1):
        result = run(*arguments, stdin=stdin)
        assert result.code == code
        assert result.out == b""
        assert result.err.startswith("Error: ")
        assert result.err.count("\n") == 1
        assert result.err.endswith("\n")
        return result.err.removeprefix("Error: ").removesuffix("\n")

    return command


class Command(subprocess.Popen[bytes]):
    """A process that nobody waits for in vain."""

    def wait(self, timeout: float | None = PATIENCE_SECONDS) -> int:
        return super().wait(timeout)


@pytest.fixture
def start():
    """start("dump", path, stdout=PIPE, ignoring=SIGHUP) -> Popen, of the command as it is installed.

    What it isn't told to ignore it hears, even where a shell has these tests ignore it, as it does in the background.
    """
    running = []

    def command(*arguments, ignoring=None, **options):
        inherited = {number: signal.signal(number, signal.SIG_DFL) for number in (SIGINT, SIGTERM, SIGHUP)}
        try:
            if ignoring is not None:
                signal.signal(ignoring, signal.SIG_IGN)
            process = Command(
                [sys.executable, "-m", "kvstore_cli", *map(os.fspath, arguments)],
                env=ENVIRONMENT,
                **options,
            )
        finally:
            for number, handler in inherited.items():
                signal.signal(number, handler)
        running.append(process)
        return process

    yield command
    for process in running:
        with process:
            process.kill()


@pytest.fixture
def shell():
    """shell("get store.kv a >&-") -> CompletedProcess, of a shell that runs the command with this line."""

    def command(line, start="-m kvstore_cli"):
        return subprocess.run(
            f"{shlex.quote(sys.executable)} {start} {line}",
            shell=True,
            env=ENVIRONMENT,
            input=b"",
            capture_output=True,
            check=False,
        )

    return command


@pytest.fixture
def filled(store_path):
    """A store with a bit of everything in it, closed."""
    with kvstore.open(store_path) as store:
        store.set_many({"a": 1, "name": "Ada", "b/1": [1.5, None], "b/2": b"\x00\xff", 5: "int", ("u", 5): (1,)})
    return store_path


@pytest.fixture(scope="session")
def large_one(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "store.kv"
    with kvstore.open(path, durability="none") as store:
        store.set_many((number, "x" * 100) for number in range(20_000))
    return path


@pytest.fixture
def large(large_one, store_path):
    """A store whose dump is larger than any pipe's buffer, closed."""
    return Path(shutil.copyfile(large_one, store_path))


@pytest.fixture
def spaced(store_path):
    """A store with records in three namespaces, some of which expire, closed."""
    with kvstore.open(store_path) as store:
        store["a"] = "default"
        store.namespace("n").set_many({"a": [1], "b": 2, 5: "int"})
        store.namespace("n").touch("b", 1_000_000)
        store.namespace("é m").set("a", "é", ttl=1_000_000)
    return store_path
