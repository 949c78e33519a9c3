"""What the same records take: memory, the files, and the bytes written until they were there."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

from bench.rows import NotMeasurableError
from bench.workloads import names
from bench.writes import PROCESS, bytes_written
from bench_peers.peer import MEDIUM, Contender, Peer
from bench_peers.workloads import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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


def filling(contender: Contender, place: Path, answer: Any) -> None:
    """Run in a process of its own: fill, write some of the records again, and tell the bytes in files and written."""
    try:
        peer = contender.make(place, MEDIUM)
    except NotMeasurableError as reason:
        answer.put(str(reason))
        return
    process = _of(peer)
    keys = names(MEDIUM.records)
    before = resident(process)
    for at in range(0, len(keys), BATCH):
        # No two records share a value, as none that are read from a file do.
        peer.set_many(dict(zip(keys[at : at + BATCH], MEDIUM.values(BATCH, seed=at), strict=True)))
    begin = bytes_written(process)
    for key, value in zip(keys, MEDIUM.values(ONE_BY_ONE), strict=False):
        peer.set(key, value)
    written = (bytes_written(process) - begin) / ONE_BY_ONE
    held = resident(process) - before
    peer.close()
    answer.put((held, on_disk(place), "writes by way of a memory map" if contender.maps else written))


def reading(contender: Contender, place: Path, answer: Any) -> None:
    """Run in another process: read every record once, and tell the bytes of memory."""
    before = resident(PROCESS)
    peer = contender.make(place, MEDIUM)
    for key in names(MEDIUM.records):
        peer.get(key)
    process = _of(peer)
    held = resident(process) - (before if process == PROCESS else 0)
    peer.close()
    answer.put(held)


def _of(peer: Peer) -> Path:
    """Whose memory and writes a peer's are: those of a server, where it has one."""
    process: Path = getattr(peer, "process", PROCESS)
    return process


def footprints(contenders: Sequence[Contender], place: Path) -> dict[str, Sequence[float | str]]:
    """By contender: bytes of memory, bytes on disk, and bytes written for one record; or why not.

    Memory is of a process that has opened and read what another one wrote; where nothing is found again, of that one.
    """
    found: dict[str, Sequence[float | str]] = {}
    for number, contender in enumerate(contenders):
        directory = place / f"footprint-{number}"
        directory.mkdir()
        filled = _child(filling, contender, directory)
        if isinstance(filled, str):
            found[str(contender)] = [filled] * 3
            continue
        held, files, written = filled
        if contender.reopens:
            held = _child(reading, contender, directory)
        found[str(contender)] = [held, files, written]
    return found


def _child(task: Callable[[Contender, Path, Any], None], contender: Contender, place: Path) -> Any:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    child = context.Process(target=task, args=(contender, place, answer))
    child.start()
    child.join()
    return "its process fails" if child.exitcode else answer.get()
