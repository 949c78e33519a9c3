"""Every system call of an operation fails, one a run: what a process does that lives through it, and what it leaves.

``faults.c`` stands between the process and libc, so this runs in a process of its own that has it preloaded:
``survey`` starts one, which looks into one operation and says what it has found.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import kvstore
import kvstore.dump
from tests.conftest import ROOT
from tests.faulty_operations import (
    IN_USE,
    ITEMS,
    NEW,
    OPENING,
    World,
    clock,
    contents,
    contents_at,
    make_template,
)
from tests.other_process import OtherProcess
from tests.strategies import same
from tests.tiers import assert_books_balance, assert_memory_is_true

SOURCE = Path(__file__).with_name("faults.c")
SHORT = 1000
LATE = 2000
KINDS = {
    "EIO": (errno.EIO, False),
    "ENOSPC": (errno.ENOSPC, False),
    "short": (SHORT, False),
    "EIO afterwards": (LATE + errno.EIO, False),
}
MORE_KINDS = {
    **KINDS,
    "EINTR": (errno.EINTR, False),
    "EMFILE": (errno.EMFILE, False),
    "ENOMEM": (errno.ENOMEM, False),
    "EACCES": (errno.EACCES, False),
    "EROFS": (errno.EROFS, False),
    "ENOSPC afterwards": (LATE + errno.ENOSPC, False),
    "EIO from then on": (errno.EIO, True),
    "ENOSPC from then on": (errno.ENOSPC, True),
}
"""Of each kind the number that ``faults.c`` knows it by, and whether it lasts."""


class Faults:
    """The shim, from within a process that has it preloaded."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(None)
        assert self._library.fault_watch(os.fsencode(folder)) == 0

    def arm(self, nth: int, kind: str) -> None:
        number, lasting = MORE_KINDS[kind]
        self._library.fault_arm(nth, number, lasting)

    def disarm(self) -> tuple[int, str]:
        """How many calls there were, and the name of the one that failed, if any."""
        name = ctypes.create_string_buffer(64)
        return self._library.fault_disarm(name), name.value.decode()

    def open_files(self) -> int:
        return self._library.fault_open_files()


class Place:
    """The folder whose files' calls fail, made anew for every fault; and what stands outside of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "faulty"
        self._template = folder / "template.kv"
        make_template(self._template)
        with kvstore.open(folder / "source.kv", clock=clock) as source:
            source.set_many(NEW)
            self._dumped = contents(source)
        self._other = OtherProcess("from pathlib import Path; from tests.faulty_operations import contents_at")
        self.before = self.seen_by_another_process(self._template)
        self.faults = Faults(self._folder)

    def prepared(self, operation: str) -> World:
        """A store as it is before the operation."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        world = World(self._folder, self._dumped)
        if operation != "creation":
            shutil.copyfile(self._template, world.path)
        if operation in IN_USE:
            store = world.open()
            # Known to memory, and written to: what the first write of an opening does besides is another operation's.
            store["b"] = ITEMS["b"]
            if operation == "set":
                # So that the shortest way of a write is taken: it is for stores in which nothing expires.
                store._engine.committer._expiring = False
                store._engine.committer._is_plain = True
            for key in ITEMS:
                store[key]
        return world

    def seen_by_another_process(self, path: Path) -> bytes:
        """What is in the store at the path, read by a process that meets no faults."""
        return self._other(f"contents_at(Path({os.fspath(path)!r}))")


class Survey:
    """Looks into one operation. ``wrong`` has what must not have been, ``outcomes`` counts what was."""

    after: bytes | None = None
    """What is in the store where all goes well."""

    def __init__(self, operation: str, place: Place) -> None:
        self.operation = operation
        self.wrong: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._place = place

    def run(self, kinds: list[str]) -> None:
        # First without a fault, for what there is afterwards.
        self._fails("EIO", 0)
        for kind in kinds:
            nth = 1
            while self._fails(kind, nth):
                nth += 1

    def _fails(self, kind: str, nth: int) -> bool:
        """Let the call fail, and look at what came of it; whether there was such a call."""
        gc.collect(0)
        open_before = self._place.faults.open_files()
        world = self._place.prepared(self.operation)
        before = None if self.operation == "creation" else self._place.before
        error: BaseException | None = None
        self._place.faults.arm(nth, kind)
        try:
            run = IN_USE.get(self.operation) or OPENING[self.operation]
            run(world)
        except BaseException as raised:
            error = raised
        _, victim = self._place.faults.disarm()
        if error is not None:
            error.__traceback__ = error.__cause__ = error.__context__ = None
        place = f"{kind} at call {nth} ({victim})"
        if victim:
            self.calls[victim] += 1
            self.outcomes["succeeded" if error is None else type(error).__name__] += 1
        try:
            self._judge(world, before, error, victim, open_before, lasts=MORE_KINDS[kind][1])
        except BaseException as found:
            said = "" if error is None else f" after {type(error).__name__}: {error}"
            line = "".join(traceback.format_tb(found.__traceback__)[-1:]).strip()
            self.wrong.append(f"{place}: {type(found).__name__}: {found}{said}\n{line}")
            for handle in world.handles:
                try:
                    handle.close()
                except BaseException as raised:
                    self.wrong.append(f"{place}: and closing it: {raised!r}")
        return bool(victim)

    def _judge(
        self,
        world: World,
        before: bytes | None,
        error: BaseException | None,
        victim: str,
        open_before: int,
        *,
        lasts: bool,
    ) -> None:
        typed = isinstance(error, kvstore.KvstoreError)
        # Of a file of the user's own, which a dump is, the system's own errors are told.
        assert error is None or typed or (self.operation.startswith("dump") and isinstance(error, OSError)), repr(error)
        if before is None and not world.path.exists():
            assert error is not None
            world.open()
        if self.operation == "compact" and lasts:
            # Others are kept out until it is closed, where the lock that keeps them out can't be let go of.
            world.close()
        seen = self._place.seen_by_another_process(world.path)
        self._judge_state(before, seen, error)
        self._judge_target(world, before, error)
        goes_on = self._judge_handles(world, seen)
        for handle in world.handles:
            handle.close()
        if self._place.faults.open_files() != open_before:
            # By what an error's traceback refers to, perhaps, and no longer than that.
            del error
            gc.collect()
        assert self._place.faults.open_files() == open_before, "files are left open"
        if victim != "unlink" and not lasts:
            left = {name.name for name in world.folder.iterdir()} - {
                *("store.kv", "store.kv-lock", "store.kv-ring", "store.kv-hot", "target", "target.xz")
            }
            assert not left, f"left behind: {left}"
        with kvstore.open(world.path, clock=clock) as store:
            another = store.pop("another", None)
            assert another == ("on" if goes_on else None), (another, goes_on)
            assert contents(store) == seen
            store["again"] = 1

    def _judge_state(self, before: bytes | None, seen: bytes, error: BaseException | None) -> None:
        """What another process reads is the state before or the one after; where it went well, the one after."""
        if self.after is None:
            assert error is None
            self.after = seen
        if error is None:
            assert seen == self.after, "what was acknowledged is not there"
        else:
            assert seen in (before, self.after), "neither done nor not"

    def _judge_target(self, world: World, before: bytes | None, error: BaseException | None) -> None:
        """A file that the operation makes is whole or not there."""
        made = [path for path in (world.target, world.target.with_suffix(".xz")) if path.exists()]
        assert made or error is not None or not self.operation.startswith(("backup", "dump"))
        for path in made:
            if self.operation == "backup":
                assert contents_at(path) == before
                path.with_name("target-lock").unlink()
                path.with_name("target-ring").unlink()
            else:
                with kvstore.dump.reading(path) as stream:
                    assert stream.read() == before

    def _judge_handles(self, world: World, seen: bytes) -> bool:
        """Every handle has the truth in memory, and goes on, or says that it must be reopened; whether it goes on."""
        handles = [store for store in world.handles if store._finalizer.alive]
        try:
            for store in handles:
                self._compare(world, store, seen)
            for store in handles:
                if not store._opening["readonly"]:
                    store["another"] = "on"
                    assert store["another"] == "on"
        except kvstore.KvstoreError as error:
            if "open it again" not in str(error):
                raise AssertionError("it neither goes on nor says what to do") from error
            self.outcomes["must be reopened"] += 1
            return False
        return any(not store._opening["readonly"] for store in handles)

    def _compare(self, world: World, store: kvstore.Store, seen: bytes) -> None:
        """Memory has what another process has read from the file, key by key."""
        readonly = store._opening["readonly"]
        with kvstore.open(world.path, cache_size=0, clock=clock, readonly=readonly) as fresh:
            assert contents(fresh) == seen
            assert_memory_is_true(store, fresh)
            assert_books_balance(store)
            for key in [*ITEMS, "new", "past"]:
                assert same(store.get(key), fresh.get(key)), key
            for key in ("a", "b", "x"):
                assert same(store.namespace("n").get(key), fresh.namespace("n").get(key)), key


def survey(shim: Path, folder: Path, kinds: list[str], operations: list[str]) -> dict[str, Any]:
    """Look into the operations in a process that has the shim: by operation, what was wrong, and what came of the faults."""
    done = with_faults(shim, "tests.faulty", os.fspath(folder), json.dumps(kinds), json.dumps(operations))
    return json.loads(done)


def with_faults(shim: Path, module: str, *arguments: str) -> str:
    """What the module writes, run as a program in a process that has the shim. ``CalledProcessError`` where it fails."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "LD_PRELOAD": os.fspath(shim)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def build(folder: Path) -> Path:
    """The compiled shim."""
    shim = folder / "faults.so"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim, SOURCE, "-ldl"], check=True)
    return shim


def main(folder: str, kinds: str, operations: str) -> None:
    # Neither the other process nor anybody else is to meet faults.
    del os.environ["LD_PRELOAD"]
    place = Place(Path(folder))
    found = {}
    for operation in json.loads(operations):
        survey = Survey(operation, place)
        survey.run(json.loads(kinds))
        found[operation] = {"wrong": survey.wrong, "outcomes": survey.outcomes, "calls": survey.calls}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
