"""Damaged store files, and processes that examine them and may die of it.

Run as a program, it is one process that takes a damage after the other, does it to the file, lets forked children see what
comes of it, and undoes it. A child that dies takes nothing with it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import kvstore
from kvstore import keys
from kvstore.verify import Problem
from kvstore_cli.main import main

ROOT: Final = Path(__file__).parent.parent
PATIENCE_SECONDS: Final = 20
"""How long a child may take, which needs some hundredths of a second."""

Patch = list[tuple[int, bytes]]
"""What is written over the file, and where."""

Expected = dict[tuple[str, Any], Any]


# -- a store with something of everything ----------------------------------------------------------------------------


def contents() -> Expected:
    """What the sample holds, by namespace and key: the same each time."""
    rng = random.Random(20)
    expected: Expected = {}
    for number in range(170):
        expected["", f"small {number:03}"] = {"n": number, "x": rng.random(), "text": "v" * rng.randrange(40)}
    for number in range(8):
        expected["", ("large", number)] = rng.randbytes(rng.choice((2_100, 4_000, 9_000, 30_000)))
    for number in range(-40, 40):
        expected["n", number] = [number, str(number) * rng.randrange(1, 9)]
    expected["n", b"large"] = rng.randbytes(20_000)
    for number in range(30):
        expected["ends", number] = rng.randbytes(30)
    return expected


ITEMS: Final = [f"item {number}" for number in range(40)] + ["x" * 5_000]
MEMBERS: Final = [f"member {number:02}" for number in range(40)]
SPACES: Final = ("", "n", "ends")
STRUCTURES: Final = {("", "list"), ("n", "set")}
EARLIER: Final = "an earlier value"


def build(path: Path) -> None:
    """Make the sample at ``path``: with free pages, and in them earlier versions of the records."""
    expected = contents()
    with kvstore.open(path, durability="none") as store:
        spaces = {"": store, "n": store.namespace("n"), "ends": store.namespace("ends")}
        for space, key in expected:
            spaces[space].set(key, EARLIER)
        for (space, key), value in expected.items():
            spaces[space].set(key, value, ttl=10**8 if space == "ends" else None)
        store.list("list").extend(ITEMS)
        store.namespace("n").set_of("set").update(MEMBERS)


# -- examining it, in a child that may die ---------------------------------------------------------------------------


class _Examination:
    """What a child finds out, told as it goes on, so that what it dies of is known."""

    def __init__(self, path: str, expected: Expected, tell: Callable[..., None]) -> None:
        self._path = path
        self._expected = expected
        self._tell = tell

    def run(self) -> None:
        """Open, verify, read everything in every way, and write."""
        with self._opened() as store:
            self._verify(store)
            self._tell(stage="read")
            self._read_all(store)
            self._tell(stage="write")
            self._write(store)
        self._tell(stage="whole")

    def run_readonly(self) -> None:
        """As ``run``, without writing."""
        with self._opened(readonly=True) as store:
            self._verify(store)
            self._tell(stage="read")
            self._read_all(store)
        self._tell(stage="whole")

    def run_command(self) -> None:
        """``kvstore verify``."""
        with tempfile.TemporaryFile("w+") as shown:
            sys.stdout = sys.stderr = shown
            code = main(["verify", self._path])
            shown.seek(0)
            self._tell(code=code, shown=shown.read())

    def _verify(self, store: kvstore.Store) -> None:
        report = store.verify()
        named = {(problem.namespace, problem.key) for problem in report.problems}
        known = {*self._expected, *STRUCTURES}
        self._tell(
            kinds=sorted({problem.kind for problem in report.problems}),
            messages=[problem.message for problem in report.problems][:5],
            covered=[repr(name) for name in known if name in named or _is_lost(name, report.problems)],
            # What is named and was never written: a key that is damaged itself.
            strangers=len([1 for space, key in named - known if key is not None or space not in SPACES]),
        )

    def _read_all(self, store: kvstore.Store) -> None:
        spaces = {"": store, "n": store.namespace("n"), "ends": store.namespace("ends")}
        for (space, key), value in self._expected.items():
            self._read((space, key), value, lambda space=space, key=key: spaces[space][key])
        for index, item in enumerate(ITEMS):
            self._read(("", "list"), item, lambda index=index: store.list("list")[index])
        members = spaces["n"].set_of("set")
        for member in MEMBERS:
            self._read(("n", "set"), True, lambda member=member: {True: True}[member in members])
        self._tell(stage="scan")
        for space, mapping in spaces.items():
            self._scan(mapping, space)
        self._tell(stage="len")
        for space, mapping in spaces.items():
            try:
                if len(mapping) != sum(1 for where, _ in self._expected if where == space):
                    self._tell(len="another")
            except kvstore.KvstoreError as error:
                self._tell(len=type(error).__name__)

    def _write(self, store: kvstore.Store) -> None:
        clock = 10.0**12
        for write in (
            lambda: store.set("new", "value", ttl=5),
            lambda: store.set_many({"small 050": 1, ("large", 3): bytes(9_000)}),
            lambda: store.delete("small 100"),
            lambda: store.list("list").append("item"),
            lambda: store.namespace("ends").set(5, 1),
            lambda: kvstore.open(self._path, durability="none", clock=lambda: clock).expire(),
        ):
            try:
                write()
            except kvstore.KvstoreError as error:
                self._tell(write=type(error).__name__)

    @contextlib.contextmanager
    def _opened(self, **options: Any) -> Iterator[kvstore.Store]:
        self._tell(stage="open")
        try:
            with kvstore.open(self._path, cache_size=0, durability="none", **options) as store:
                self._tell(stage="verify")
                yield store
        except kvstore.KvstoreError as error:
            self._tell(error=type(error).__name__, message=str(error))
            os._exit(0)

    def _read(self, name: tuple[str, Any], value: Any, read: Callable[[], Any]) -> None:
        try:
            found = read()
        except (KeyError, IndexError):
            outcome = "missing"
        except kvstore.KvstoreError as error:
            outcome = type(error).__name__
        else:
            if found == value and type(found) is type(value):
                return
            outcome = "earlier" if found == EARLIER else "wrong"
        self._tell(read=outcome, key=repr(name))

    def _scan(self, mapping: Any, space: str) -> None:
        seen = 0
        try:
            for key, value in mapping.items():
                seen += 1
                expected = self._expected.get((space, key))
                if value != expected or type(value) is not type(expected):
                    self._tell(read="earlier" if value == EARLIER else "wrong", key=repr((space, key)))
                if seen > 10 * len(self._expected):
                    self._tell(scan="endless")
                    return
        except kvstore.KvstoreError as error:
            self._tell(scan=type(error).__name__)
        else:
            if seen != sum(1 for where, _ in self._expected if where == space):
                self._tell(scan="incomplete")


def _is_lost(name: tuple[str, Any], problems: Iterable[Problem]) -> bool:
    """Whether a problem says that the key is lost."""
    space, key = name
    encoded = keys.encode(key)
    for problem in problems:
        if problem.kind == "structure" and (space or name in STRUCTURES):
            if "whole namespaces may be lost" in problem.message:
                return True
            if name in STRUCTURES and any(
                what in problem.message for what in ("own structures is lost", "neither a key")
            ):
                return True
        if name in STRUCTURES and (problem.kind, problem.namespace, problem.key) == ("record", space, None):
            # What says which lists and sets the namespace has.
            return True
        if problem.kind == "lost" and problem.namespace == space:
            low = b"" if problem.key is None else keys.encode(problem.key)
            high = b"\x10" if problem.until is None else keys.encode(problem.until)
            if low <= encoded < high:
                return True
    return False


def _child(work: Callable[[Callable[..., None]], None]) -> dict[str, Any]:
    """What a forked child tells, in a dict of lists, with what it died of under ``died``."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(PATIENCE_SECONDS)
            os.close(reader)
            work(lambda **facts: os.write(writer, json.dumps(facts).encode() + b"\n"))
            status = 0
        except BaseException as error:
            os.write(writer, json.dumps({"raised": repr(error)}).encode() + b"\n")
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as told:
        lines = told.read().splitlines()
    status = os.waitpid(pid, 0)[1]
    found: dict[str, Any] = {"died": signal.Signals(status).name if os.WIFSIGNALED(status) else None}
    for line in lines:
        for name, fact in json.loads(line).items():
            found.setdefault(name, []).append(fact)
    return found


# -- the process that does the damage --------------------------------------------------------------------------------


def examine(path: str) -> None:
    """Take damages from standard input, and tell on standard output what comes of each."""
    expected = contents()
    sound = Path(path).read_bytes()
    # What is imported late is imported once.
    importlib.import_module("kvstore_cli.verify")
    importlib.import_module("kvstore_cli.group")
    _Examination(path, expected, lambda **_: None).run_readonly()
    for line in sys.stdin:
        damage = json.loads(line)
        descriptor = os.open(path, os.O_RDWR)
        for offset, new in damage["patches"]:
            os.pwrite(descriptor, bytes.fromhex(new), offset)
        if damage["length"] is not None:
            os.truncate(descriptor, damage["length"])
        found = _child(lambda tell, way=damage["way"]: getattr(_Examination(path, expected, tell), way)())
        if os.pread(descriptor, len(sound) + 1, 0) != sound:
            os.pwrite(descriptor, sound, 0)
            os.truncate(descriptor, len(sound))
        os.close(descriptor)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


class Examiner:
    """That process, as the tests have it."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.rot", str(path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, patches: Patch, length: int | None = None, way: str = "run") -> dict[str, Any]:
        hexed = [(offset, new.hex()) for offset, new in patches]
        line = json.dumps({"patches": hexed, "length": length, "way": way})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


# -- where to do damage ----------------------------------------------------------------------------------------------


REGIONS: Final = ("meta page", "page header", "node pointer", "node header", "branch", "key", "record", "overflow")


class Regions:
    """The bytes of a sound LMDB file by what they are, as offsets."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.page_size = struct.unpack_from("=I", data, 40)[0]
        newest = max((0, self.page_size), key=lambda base: struct.unpack_from("=Q", data, base + 144)[0])
        self.of: dict[str, list[int]] = {region: [] for region in REGIONS}
        self.pages: list[int] = []
        for base in (0, self.page_size):
            self.of["meta page"] += range(base, base + 152)
        for root in (newest + 40, newest + 88):
            self._tree(struct.unpack_from("=Q", data, root + 40)[0])

    def _tree(self, number: int) -> None:
        if number == (1 << 64) - 1:
            return
        self.pages.append(number)
        base = number * self.page_size
        flags, lower = struct.unpack_from("=HH", self.data, base + 10)
        self.of["page header"] += range(base, base + 16)
        self.of["node pointer"] += range(base + 16, base + lower)
        for place in range(base + 16, base + lower, 2):
            node = base + struct.unpack_from("=H", self.data, place)[0]
            low, high, kind, size = struct.unpack_from("=HHHH", self.data, node)
            if flags & 1:
                self.of["branch"] += range(node, node + 8 + size)
                self._tree(low | high << 16 | kind << 32)
                continue
            self.of["node header"] += range(node, node + 8)
            self.of["key"] += range(node + 8, node + 8 + size)
            content, length = node + 8 + size, low | high << 16
            if kind & 1:
                self.of["node header"] += range(content, content + 8)
                first = struct.unpack_from("=Q", self.data, content)[0] * self.page_size
                self.of["page header"] += range(first, first + 16)
                self.of["overflow"] += range(first + 16, first + 16 + length)
                self.pages.append(first // self.page_size)
            elif kind & 2:
                self.of["node header"] += range(content, content + length)
                self._tree(struct.unpack_from("=Q", self.data, content + 40)[0])
            else:
                self.of["record"] += range(content, content + length)


if __name__ == "__main__":
    examine(sys.argv[1])
