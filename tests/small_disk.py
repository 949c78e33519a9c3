"""A store on a file system that is really full. A program, for it mounts one, in namespaces of its own that end with it:

``unshare --user --map-root-user --mount python -m tests.small_disk tmpfs|ext4 FOLDER``

Says on standard output what it has done, as JSON; an assertion that fails ends it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kvstore
import kvstore.dump
from kvstore.coherence import RING_BYTES
from tests.faulty_operations import contents, contents_at
from tests.other_process import OtherProcess
from tests.tiers import assert_books_balance, assert_memory_is_true

MIB = 2**20
SIZE = 12 * MIB
MANY = 20
BIG = bytes(200_000)
BALLAST_BYTES = 100_000
ROOMS = {"tmpfs": (0, 4096, 50_000), "ext4": (4096,)}
"""Bytes left free; fewer of them where a commit waits for the disk."""


def mount(kind: str, folder: Path) -> None:
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", folder], check=True)
        return
    image = folder.with_name("image")
    with image.open("wb") as file:
        file.truncate(2 * SIZE)
    # Without blocks set aside for root, who this is.
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)


class Disk:
    """The small disk; ballast takes the room that is left, and gives it back."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self, *, but: int = 0) -> None:
        """Leave so many bytes free."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (BALLAST_BYTES, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
            file.truncate(max(0, file.tell() - but))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


def change(store: kvstore.Store) -> None:
    with store.transaction() as transaction:
        transaction["a"] = "changed"
        transaction.update(dict.fromkeys(range(MANY), BIG))


def dump(store: kvstore.Store, folder: Path) -> None:
    with kvstore.dump.writing(folder / "target.jsonl") as stream:
        kvstore.dump.write(store, stream)


def load(store: kvstore.Store) -> None:
    lines = io.BytesIO()
    with kvstore.open(os.environ["SOURCE"], durability="none") as source:
        kvstore.dump.write(source, lines)
    lines.seek(0)
    kvstore.dump.load(store, lines, merge=True)


OPERATIONS: dict[str, Callable[[kvstore.Store, Path], Any]] = {
    "set": lambda store, folder: store.set("a", BIG),
    "set_many": lambda store, folder: store.set_many(dict.fromkeys(range(MANY), BIG)),
    "transaction": lambda store, folder: change(store),
    "set in a new namespace": lambda store, folder: store.namespace("new").set("a", BIG),
    "list": lambda store, folder: store.list("l").extend([BIG] * 10),
    "backup": lambda store, folder: store.backup(folder / "target"),
    "compact": lambda store, folder: store.compact(),
    "dump": lambda store, folder: dump(store, folder),
    "load": lambda store, folder: load(store),
}


def survives(disk: Disk, store: kvstore.Store, folder: Path, name: str, other: OtherProcess) -> str:
    """Do it where there is no room, look at what is left, do it again where there is; the error that it was."""
    path = folder / "store.kv"
    before = contents(store)
    error: BaseException | None = None
    try:
        OPERATIONS[name](store, folder)
    except kvstore.KvstoreError as raised:
        error = raised
    except OSError as raised:
        # Of a file of the user's own, which a dump is, the system's own errors are told.
        error = raised if name == "dump" else None
    assert isinstance(error, (kvstore.StoreFullError, OSError)), f"{name} went through, or raised what it should not"
    # Nothing of it is there, nothing else is lost, and both can be read on the full disk.
    assert other(f"contents_at(Path({os.fspath(path)!r}))") == before
    with kvstore.open(path, cache_size=0) as fresh:
        assert contents(fresh) == before
        assert_memory_is_true(store, fresh)
    assert_books_balance(store)
    left = {found.name for found in folder.iterdir()} - {"store.kv", "store.kv-lock", "store.kv-ring", "ballast"}
    assert left <= {"lost+found"}, left
    disk.free()
    assert store.delete("spare")
    OPERATIONS[name](store, folder)
    for target in ("target", "target.jsonl"):
        (folder / target).unlink(missing_ok=True)
    store["spare"] = BIG
    assert contents_at(path) == contents(store)
    return type(error).__name__


def fill_by_sets(store: kvstore.Store, path: Path) -> int:
    """Set until the disk is full, delete, and set again: what was acknowledged is there. How many there were."""
    count = 0
    try:
        while True:
            store[count] = bytes([count % 256]) * 5_000
            count += 1
    except kvstore.StoreFullError:
        pass
    with kvstore.open(path, cache_size=0) as fresh:
        assert all(fresh[number] == bytes([number % 256]) * 5_000 for number in range(count))
        assert_memory_is_true(store, fresh)
    return count


def main(kind: str, folder: str) -> None:
    base = Path(folder)
    place = base / "disk"
    place.mkdir()
    os.environ["SOURCE"] = os.fspath(base / "source.kv")
    with kvstore.open(base / "source.kv") as source:
        source.set_many(dict.fromkeys(range(MANY), BIG))
    mount(kind, place)
    disk = Disk(place)
    found: Counter[str] = Counter()
    with OtherProcess("from pathlib import Path; from tests.faulty_operations import contents_at") as other:
        for room in ROOMS[kind]:
            for name in OPERATIONS:
                path = place / "store.kv"
                with kvstore.open(path) as store:
                    store.set_many({"a": 1, "b": [2], "large": BIG, "spare": BIG})
                    store.namespace("n")["a"] = "in n"
                    dict(store.items())
                    store["a"], store["b"]
                    disk.fill(but=room)
                    found[survives(disk, store, place, name, other)] += 1
                for left in place.glob("store.kv*"):
                    left.unlink()
        with kvstore.open(place / "store.kv") as store:
            found["sets until it was full"] = fill_by_sets(store, place / "store.kv")
        # A ring that is as long as it must be, and has no blocks, as a sparse copy has: what is mapped of it, and has
        # no room, would end this process.
        ring = place / "store.kv-ring"
        ring.write_bytes(b"")
        os.truncate(ring, RING_BYTES)
        disk.fill()
        with kvstore.open(place / "store.kv") as store:
            # Opened on a full disk. A delete needs some pages itself, until it has freed some.
            try:
                store.delete_many(range(10))
            except kvstore.StoreFullError:
                found["deletes that had to wait for room"] += 1
            disk.free()
            for _ in range(3):
                store.delete_many(range(100))
            store["after"] = 1
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
