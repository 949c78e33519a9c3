"""``python -m bench_peers``: measure kvstore and what a user would pick instead, and print the report."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.__main__ import line, machine, measure, version_of
from bench.rows import NotMeasurableError
from bench_peers import plots, targets
from bench_peers.contenders import CONTENDERS
from bench_peers.footprint import footprints
from bench_peers.measuring import Standing, in_turn, standing
from bench_peers.peer import MEDIUM, PAYLOADS, YCSB_RECORD, Payload
from bench_peers.report import Table, file_name, matching
from bench_peers.server import PROGRAM
from bench_peers.sizes import at_size
from bench_peers.workloads import SHARED, WORKLOADS, YCSB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench_peers.measuring import Cells
    from bench_peers.peer import Contender
    from bench_peers.workloads import Workload

PEERS = ("sqlitedict", "rocksdict", "zict", "redis")
THREADS, PROCESSES = 8, 4
OPERATIONS, CROWDS, RANDOM = "Operations", f"{THREADS} threads and {PROCESSES} processes", "YCSB"
FOOTPRINT, SIZES, TARGETS = "Memory, files, bytes written", "Sizes", "Targets"
SECTIONS = (TARGETS, OPERATIONS, CROWDS, RANDOM, FOOTPRINT, SIZES)


class Run:
    """One run of the benchmark: what it was asked for, and where it shows what it finds."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.place, self.out, self.records = place, options.out, options.records
        self.rounds, self.seconds = (1, 0.02) if options.quick else (3, 0.1)
        self.quick = options.quick
        self.contenders: Sequence[Contender] = CONTENDERS
        if options.peers:
            self.contenders = tuple(one for one in CONTENDERS if matching(options.peers, [str(one)]))

    def show(self, table: Table, *, pictures: bool = True) -> None:
        """Print it, and draw each of its columns."""
        print(table.markdown(), flush=True)
        if self.out is None or not pictures:
            return
        for column in table.columns():
            plots.bars(table, column, self.out / file_name(table.title, column))

    def workloads(self, workloads: Sequence[Workload], payload: Payload, tables: dict[str, Table], column: str) -> None:
        """A column of each workload's table: one kind of value."""
        with standing(self.contenders, self.place / file_name(payload.name, column), payload) as (up, missing):
            for workload in workloads:
                cells = self._cells(workload, up, partial(Standing.alone, workload=workload))
                tables[workload.name].add(column, cells | missing)

    def _cells(
        self, workload: Workload, up: dict[str, Standing], prepare: Callable[[Standing], Callable[[float], float]]
    ) -> Cells:
        measures: dict[str, Callable[[float], float]] = {}
        cells: Cells = {}
        for name, one in up.items():
            if not workload.suits(one.contender):
                cells[name] = workload.unsuited
                continue
            try:
                measures[name] = prepare(one)
            except NotMeasurableError as reason:
                cells[name] = str(reason)
        found = in_turn(measures, rounds=self.rounds, seconds=self.seconds)
        return {name: (found | cells)[name] for name in up}

    def operations(self) -> None:
        """Every operation, each kind of value, one thread."""
        tables = {workload.name: Table(f"{workload.name}, records a second", "/s") for workload in WORKLOADS}
        for payload in PAYLOADS[:1] if self.quick else PAYLOADS:
            self.workloads(WORKLOADS, payload, tables, payload.name)
        for table in tables.values():
            self.show(table)

    def crowds(self) -> None:
        """Several threads, and several processes, of 2 KB values."""
        tables = {workload.name: Table(f"{workload.name}, 2 KB, records a second", "/s") for workload in SHARED}
        with standing(self.contenders, self.place / "crowds", MEDIUM) as (up, missing):
            for workload in SHARED:
                table = tables[workload.name]
                ways: dict[str, Callable[[Standing], Callable[[float], float]]] = {
                    "1 thread": partial(Standing.alone, workload=workload),
                    f"{THREADS} threads": partial(Standing.threaded, workload=workload, count=THREADS),
                    f"{PROCESSES} processes": partial(Standing.in_processes, workload=workload, count=PROCESSES),
                }
                for column, prepare in ways.items():
                    table.add(column, self._cells(workload, up, prepare) | missing)
        for table in tables.values():
            self.show(table)

    def ycsb(self) -> None:
        """The core workloads of the Yahoo! Cloud Serving Benchmark (Cooper et al., SoCC '10), of 10,000 records."""
        table = Table("YCSB, operations a second", "/s")
        with standing(self.contenders, self.place / "ycsb", YCSB_RECORD) as (up, missing):
            for workload in YCSB:
                prepare = partial(Standing.alone, workload=workload)
                table.add(workload.name.split(":")[0], self._cells(workload, up, prepare) | missing)
        print("\n".join(f"- {workload.name}" for workload in YCSB) + "\n")
        self.show(table)

    def footprint(self) -> None:
        """The same records in each."""
        table = Table(f"{MEDIUM.records:,} records of {MEDIUM.name}", "B")
        for name, found in footprints(self.contenders, self.place).items():
            columns = ("memory", "files", "written per set")
            for column, figure in zip(columns, found, strict=True):
                table.add(column, {name: figure})
        self.show(table)

    def sizes(self) -> None:
        """From 10^4 records to as many as were asked for."""
        counts = [count for count in (10**4, 10**5, 10**6, 10**7) if count <= self.records]
        tables = [Table(title, "s") for title in ("open and first read", "hot read", "cold read")]
        lines: list[dict[str, dict[int, float]]] = [{}, {}, {}]
        for number, contender in enumerate(self.contenders):
            if contender.durability != "flushed" and any(
                one.name == contender.name for one in self.contenders[:number]
            ):
                continue  # reads are the same at any durability
            for count in counts:
                with tempfile.TemporaryDirectory(dir=self.place) as directory:
                    found = at_size(contender, Path(directory) / "store", count)
                for at, table in enumerate(tables):
                    cell = found if isinstance(found, str) else found[at]
                    table.add(f"{count:,}", {contender.name: cell})
                    if not isinstance(cell, str):
                        lines[at].setdefault(contender.name, {})[count] = cell
        for table, series in zip(tables, lines, strict=True):
            self.show(table, pictures=False)
            if self.out is not None:
                plots.lines(table.title, series, self.out / file_name("sizes", table.title), unit="seconds")

    def targets(self) -> bool:
        """Whether every row that could be measured keeps its limit."""
        print(
            "| operation | against | ours | theirs | ratio (middle half) | limit | kept |\n|---|---|---|---|---|---|---|"
        )
        kept = True
        for row in targets.rows(self.records):
            result = measure(row, self.place)
            print(line(row, result), flush=True)
            kept = kept and (isinstance(result, str) or row.limit.holds(result.ratio))
        print()
        return kept


def server_version() -> str:
    """Of the Redis server; nothing where there is none."""
    try:
        said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    except OSError:
        return ""
    return ", redis-server " + said.partition("v=")[2].split()[0]


def main() -> int:
    """Exit code: 0 where every target measured is reached, 1 where one isn't, 2 where no section matches."""
    parser = argparse.ArgumentParser(prog="bench_peers", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="", help=f"sections: {', '.join(SECTIONS)}")
    parser.add_argument("--peers", metavar="PATTERN", help="contenders whose name and durability match")
    parser.add_argument("--quick", action="store_true", help="one short round of each, one kind of value: a smoke test")
    parser.add_argument("--records", type=int, default=10**6, help="the largest store (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="directory for the pictures, which need matplotlib")
    parser.add_argument("--place", type=Path, help="directory on the disk to measure (default: the system's)")
    options = parser.parse_args()
    wanted = matching(options.only, SECTIONS)
    if not wanted:
        parser.error(f"no section matches {options.only!r}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    random.seed(0)
    named = ", ".join(f"{name} {number}" for name in PEERS if (number := version_of(name)))
    print(f"{machine()}, {named}{server_version()}\n")
    reached = True
    with tempfile.TemporaryDirectory(prefix="kvstore-peers-", dir=options.place) as directory:
        run = Run(options, Path(directory))
        sections = (run.targets, run.operations, run.crowds, run.ycsb, run.footprint, run.sizes)
        for title, section in zip(SECTIONS, sections, strict=True):
            if title in wanted:
                print(f"## {title}\n", flush=True)
                reached = section() is not False and reached
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
