"""What the same records take: memory, the files, and the bytes written until they were there."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

from bench.rows import NotMeasurableError
from bench.writes import PROCESS, bytes_written
from bench_peers.measuring import VALUES
from bench_peers.peer import MEDIUM, Contender
from bench_peers.workloads import filled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ONE_BY_ONE = 1_000
"""How many of the records are written once more, each by itself."""


def on_disk(place: Path) -> int:
    """Bytes of the blocks that the files take."""
    return sum(path.stat().st_blocks * 512 for path in place.rglob("*") if path.is_file())


def resident(process: Path) -> int:
    """Bytes of the process in memory that are its own: pages of a mapped file belong to the system's cache."""
    _, pages, shared, *_ = map(int, (process / "statm").read_text(encoding="ascii").split())
    return (pages - shared) * os.sysconf("SC_PAGE_SIZE")


def taken(contender: Contender, place: Path, answer: Any) -> None:
    """Run in a process of its own: fill, write some again, read all, and tell what that took."""
    try:
        values = MEDIUM.values(VALUES)
        before = resident(PROCESS)
        peer = contender.make(place, MEDIUM)
        process = getattr(peer, "counters", PROCESS)  # a server writes and remembers by itself
        if process != PROCESS:
            before = resident(process)
        keys = filled(peer, MEDIUM.records, values)
        begin = bytes_written(process)
        for key in keys[:ONE_BY_ONE]:
            peer.set(key, values[0])
        written = (bytes_written(process) - begin) / ONE_BY_ONE
        for key in keys:
            peer.get(key)
        held = resident(process) - before
        peer.close()
        answer.put((held, on_disk(place), written))
    except NotMeasurableError as reason:
        answer.put(str(reason))


def footprints(contenders: Sequence[Contender], place: Path) -> dict[str, tuple[float, float, float] | str]:
    """By contender: bytes of memory, bytes on disk, and bytes written for one record; or why not."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for number, contender in enumerate(contenders):
        directory = place / f"footprint-{number}"
        directory.mkdir()
        answer = context.SimpleQueue()
        child = context.Process(target=taken, args=(contender, directory, answer))
        child.start()
        child.join()
        found[str(contender)] = "failed" if child.exitcode else answer.get()
    return found
