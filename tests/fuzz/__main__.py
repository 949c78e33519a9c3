"""``python -m tests.fuzz [TARGET ...]``: so many inputs to each target, in this process. Exits with 1 at the first that fails."""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import resource
import sys
import time
from typing import Final

from tests.fuzz.mutator import inputs
from tests.fuzz.targets import TARGETS

MOST_GROWTH: Final = 64 << 20
SLOWEST_SECONDS: Final = 10
_WARMING: Final = 2_000
_AT_ONCE: Final = 500


def main() -> int:
    """Fuzz, and say what it took."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    parser.add_argument("--inputs", type=int, help="how many to each target (default: as the full set has)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for name in given.targets or TARGETS:
        fuzz(name, given.inputs, given.seed)
    return 0


def fuzz(name: str, count: int | None, seed: int) -> None:
    """Give one target its inputs. Raises what it raises, with the input; ends the process at one that hangs."""
    target = TARGETS[name]()
    count = count or target.full
    began = time.perf_counter()
    before = slowest = 0
    try:
        for number, data in enumerate(itertools.islice(inputs(target.samples, seed), count)):
            if number % _AT_ONCE == 0:
                # For all of them together, since setting it for each would cost more than most.
                faulthandler.dump_traceback_later(_AT_ONCE * SLOWEST_SECONDS / 100 + SLOWEST_SECONDS, exit=True)
            # What the first ones import and set up is not growth.
            if number == min(_WARMING, count // 2):
                before = peak()
            start = time.perf_counter_ns()
            try:
                target.run(data)
            except BaseException as error:
                error.add_note(f"{name}, seed {seed}, input {number}: {data.hex()}")
                raise
            slowest = max(slowest, time.perf_counter_ns() - start)
    finally:
        # Whoever has called this from a process that goes on must not have it ended later.
        faulthandler.cancel_dump_traceback_later()
        target.close()
    grown = peak() - before
    sys.stdout.write(
        f"{name}: {count:,} inputs in {time.perf_counter() - began:,.0f} s, the slowest {slowest / 1e6:,.0f} ms, "
        f"memory +{grown / 2**20:.0f} MiB\n"
    )
    assert grown < MOST_GROWTH, f"{name} has grown by {grown} bytes"
    assert slowest < SLOWEST_SECONDS * 1e9, f"{name} took {slowest / 1e9} s for an input"


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


if __name__ == "__main__":
    sys.exit(main())
