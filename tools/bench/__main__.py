"""``python -m bench``: measure the rows and print the table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import arrays, memoized, memory, reads, sharing, startup, writes
from bench.rows import Measurement, NotMeasurableError, Row

ROWS: tuple[Row, ...] = (
    *reads.ROWS,
    *arrays.ROWS,
    *writes.ROWS,
    *sharing.ROWS,
    *memory.ROWS,
    *memoized.ROWS,
    *startup.ROWS,
)
LIBRARIES = ("lmdb", "msgpack", "cachetools", "xxhash", "numpy", "joblib", "diskcache")


def machine() -> str:
    """Processor, cores, kernel, Python, and the versions of the libraries compared."""
    processor = platform.processor() or platform.machine()
    details = Path("/proc/cpuinfo")
    if details.exists():
        found = re.search(r"^model name\s*: (.*)$", details.read_text(encoding="utf-8"), re.MULTILINE)
        processor = found[1] if found else processor
    libraries = ", ".join(f"{name} {number}" for name in LIBRARIES if (number := version_of(name)))
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}; {libraries}"
    )


def version_of(library: str) -> str | None:
    """The installed version; None where a library that only some rows need isn't there."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def amount(figure: float, unit: str) -> str:
    """A figure for reading: 214 ns, 3.1 ms, 8.4 MB."""
    steps = {"s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((1e6, "MB"), (1e3, "kB")), "/s": ((1e3, "k/s"),)}
    last = {"s": (1e-9, "ns"), "B": (1, "B"), "/s": (1, "/s"), "": (1, "")}
    for size, name in steps.get(unit, ()):
        if figure >= size:
            return f"{figure / size:.3g} {name}"
    size, name = last[unit]
    return f"{figure / size:.3g} {name}".strip()


def measure(row: Row, place: Path | None) -> Measurement | str:
    """One row, in a directory of its own; where it can't be measured here, why."""
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-", dir=place) as directory:
        try:
            return row.measure(Path(directory))
        except NotMeasurableError as reason:
            return str(reason)


def line(row: Row, result: Measurement | str) -> str:
    """The row as a line of a Markdown table."""
    head = f"| {row.operation} | {row.against} |"
    if isinstance(result, str):
        return f"{head} | | not measured: {result} | {row.limit} | |"
    low, high = result.spread
    spread = f" ({low:.2f} to {high:.2f})" if low != high else ""
    ours, theirs = amount(result.ours, result.unit), amount(result.theirs, result.unit)
    verdict = "yes" if row.limit.holds(result.ratio) else "**no**"
    return f"{head} {ours} | {theirs} | {result.ratio:.2f}{spread} | {row.limit} | {verdict} |"


def as_dict(row: Row, result: Measurement | str) -> dict[str, object]:
    """The row for ``--json``; figures are seconds, bytes or counts per operation."""
    entry: dict[str, object] = {
        "operation": row.operation,
        "against": row.against,
        "at_least": row.limit.at_least,
        "at_most": row.limit.at_most,
    }
    if isinstance(result, str):
        return entry | {"not_measured": result}
    return entry | {
        "ours": result.ours,
        "theirs": result.theirs,
        "unit": result.unit,
        "ratio": result.ratio,
        "quartiles": result.spread,
        "rounds": len(result.ratios),
        "ok": row.limit.holds(result.ratio),
    }


def main() -> int:
    """Exit code: 0 where every row measured keeps its limit, 1 where one doesn't, 2 where none matches."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="", help="rows whose operation or peer match")
    parser.add_argument("--json", action="store_true", help="a JSON object instead of the table")
    parser.add_argument("--list", action="store_true", help="name the rows and measure nothing")
    parser.add_argument("--place", type=Path, help="directory on the disk to measure (default: the system's)")
    options = parser.parse_args()
    pattern = re.compile(options.only, re.IGNORECASE)
    rows = [row for row in ROWS if pattern.search(f"{row.operation}; {row.against}")]
    if not rows:
        parser.error(f"no row matches {options.only!r}; --list names them")
    if options.list:
        print("\n".join(f"{row.operation}; {row.against}" for row in rows))
        return 0
    results = []
    if not options.json:
        print(f"{machine()}\n\n| operation | against | ours | theirs | ratio (middle half) | limit | kept |")
        print("|---|---|---|---|---|---|---|", flush=True)
    for row in rows:
        result = measure(row, options.place)
        results.append((row, result))
        if not options.json:
            print(line(row, result), flush=True)
    if options.json:
        entries = [as_dict(row, result) for row, result in results]
        print(json.dumps({"machine": machine(), "rows": entries}, indent=2))
    measured = [(row, result) for row, result in results if isinstance(result, Measurement)]
    return int(not all(row.limit.holds(result.ratio) for row, result in measured))


if __name__ == "__main__":
    sys.exit(main())
