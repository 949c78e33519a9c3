"""Whether the paths that every program is on have grown: the bytecodes of each, counted, against the committed budget.

Bytecodes don't depend on the machine nor on what else runs on it. Each interpreter version has its own budget, in
``hot_path.json`` beside this file; ``--write`` writes the one of the version that runs it.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
BUDGET = Path(__file__).with_suffix(".json")
TIMES = 33
"""How often each path is taken. The median counts: one call in many does what the others have left undone."""

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any

    Paths = Mapping[str, Callable[[], object]]


def bytecodes(path: Callable[[], object]) -> int:
    """How many bytecodes a call of ``path`` runs, whatever it calls included; those in C don't count."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        path()
    finally:
        sys.settrace(before)
    return count


def counted(paths: Paths) -> dict[str, int]:
    """The bytecodes of each path, of the call and what is called: the call of an empty function is taken off."""
    collecting = gc.isenabled()
    gc.disable()  # what it finds dead may be finalised in Python
    try:
        empty = _median(lambda: None)
        return {name: _median(path) - empty for name, path in paths.items()}
    finally:
        if collecting:
            gc.enable()


def _median(path: Callable[[], object]) -> int:
    for _ in range(TIMES):  # until the interpreter has specialised it
        path()
    return round(statistics.median(bytecodes(path) for _ in range(TIMES)))


def measured() -> dict[str, int]:
    """The bytecodes of the library's hot paths. The write comes last."""
    sys.path.insert(0, str(ROOT))
    import kvstore  # noqa: PLC0415  # found only now, where the package isn't installed

    with tempfile.TemporaryDirectory(prefix="kvstore-hot-path-") as place:
        with (
            kvstore.open(Path(place) / "hot.kv") as store,
            kvstore.open(Path(place) / "off.kv", cache_size=0) as untiered,
            kvstore.open(Path(place) / "full.kv", cache_size=50_000) as full,
        ):
            for one in (store, untiered):
                one["key"] = "value"
                one["flat"] = {"label": "python", "score": 0.5}
                one[("a", 1)] = "value"

            @store.memoize
            def label(text: str) -> str:
                return text.upper()

            label("text")
            # As many at once leave memory alone; each is then read once.
            store.set_many(dict.fromkeys(range(2_000), "value"))
            unread = itertools.count()
            rows = [f"row:{number:06}" for number in range(1_000)]
            full.set_many(dict.fromkeys(rows, "value"))
            # More than there is room for: when one comes round again it is gone.
            in_turn = itertools.cycle(rows)
            for row in rows:
                full[row]
            return counted(
                {
                    "hit, store[key]": lambda: store["key"],
                    "hit, store[key] of a dict": lambda: store["flat"],
                    "hit, store[key] by a tuple": lambda: store[("a", 1)],
                    "hit, store.get(key)": lambda: store.get("key"),
                    "hit, key in store": lambda: "key" in store,
                    "memoized hit": lambda: label("text"),
                    "miss, tier off": lambda: untiered["key"],
                    "miss, into memory": lambda: store[next(unread)],
                    "miss, into a full memory": lambda: full[next(in_turn)],
                    "miss, key that isn't there": lambda: store.get("absent"),
                    "get_many of ten misses": lambda: full.get_many(itertools.islice(in_turn, 10)),
                    "scan of one": lambda: [*full.scan(start="row:000500", limit=1)],
                    "scan of fifty": lambda: [*full.scan(start="row:000500", limit=50)],
                    "scan of fifty keys": lambda: [*full.scan_keys(start="row:000500", limit=50)],
                    "durable set": lambda: store.set("key", "value"),
                }
            )


def grown(found: Mapping[str, int], budget: Mapping[str, int]) -> list[str]:
    """A line for each path that takes more than it may, or of which the budget says nothing."""
    lines = []
    for name, count in found.items():
        if name not in budget:
            lines.append(f"{name}: {count} bytecodes, and no budget for it")
        elif count > budget[name]:
            lines.append(f"{name}: {count} bytecodes, where {budget[name]} were enough ({count - budget[name]:+})")
    return lines


def main() -> int:
    """Exit code: 0 where every path keeps its budget, 1 where one has grown."""
    parser = argparse.ArgumentParser(prog="hot_path", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make what is counted the budget of this Python")
    options = parser.parse_args()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    budgets = json.loads(BUDGET.read_text(encoding="utf-8")) if BUDGET.exists() else {}
    found = measured()
    if options.write:
        budgets[version] = found
        BUDGET.write_text(json.dumps(dict(sorted(budgets.items())), indent=2) + "\n", encoding="utf-8")
        print(f"hot_path: {BUDGET.name} now holds what Python {version} counts")
        return 0
    if version not in budgets:
        print(f"hot_path: no budget for Python {version}; --write makes one")
        return 0
    lines = grown(found, budgets[version])
    if lines:
        print("hot_path: grown, on Python " + version, *lines, sep="\n  ")
        print("Make it shorter, or, where it is worth it, run tools/hot_path.py --write and commit the new budget.")
        return 1
    print(f"hot_path: {len(found)} paths within their budget of bytecodes, on Python {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
