"""Real inference results, cached: the type of each file of Python's own standard library.

The PyPI package ``magika`` is a neural network that tells the type of a file by its content. It is asked
about each file by way of a store, whose key is the hash of the content, in three steps:

1. a new store: the network computes every answer, and the store keeps it;
2. again, in the same process: the answers come out of memory;
3. in a new process: the answers come out of the file, and from the second pass on out of memory.

Then the ``kvstore`` command dumps the store and loads it into a second one, and the two are compared.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import kvstore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magika import Magika

CACHE_SIZE = 4 * 2**20  # bytes; the tier's default is larger, and would be hardly used here
LINE = "{:27} {:>8} {:>6} {:>7} {:>8} {:>9} {:>12} {:>11} {:>6}"
HEAD = ("step", "seconds", "hits", "misses", "in file", "hit rate", "utilization", "inferences", "saved")


class Classifier:
    """The network, asked once for each content; ``inferences`` counts how often it was."""

    def __init__(self, store: kvstore.Store) -> None:
        self.store = store
        self.inferences = 0

    @functools.cached_property
    def network(self) -> Magika:
        """Loaded when the first answer has to be computed, so never where all are in the store."""
        from magika import Magika  # noqa: PLC0415

        return Magika()

    def __call__(self, content: bytes) -> dict[str, Any]:
        """What the content is: its answer from the store, or else computed and stored."""
        key = hashlib.sha256(content).digest()
        answer: dict[str, Any] | None = self.store.get(key)
        if answer is None:
            answer = self.store[key] = self.compute(content)
        return answer

    def compute(self, content: bytes) -> dict[str, Any]:
        """The network's answer in plain values: its label is an enumeration, which a store refuses."""
        self.inferences += 1
        found = self.network.identify_bytes(content)
        return {
            "label": str(found.output.label),
            "group": found.output.group,
            "mime": found.output.mime_type,
            "score": found.score,
        }


def library_files(limit: int | None) -> list[Path]:
    """The standard library's own files, of every kind, without what was installed or compiled later."""
    skipped = {"site-packages", "dist-packages", "__pycache__"}
    found: list[Path] = []
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = [name for name in folders if name not in skipped]
        found += (path for name in names if (path := Path(folder, name)).is_file())
    return sorted(found)[:limit]


def under_progress_bar(files: list[Path], label: str) -> Iterator[Path]:
    """The files one by one; on a terminal under a bar, which is gone again when they are through."""
    terminal = sys.stderr.isatty()
    with click.progressbar(files, label=label, file=sys.stderr, hidden=not terminal) as shown:
        yield from shown
    if terminal:
        sys.stderr.write("\x1b[1A\x1b[2K")
        sys.stderr.flush()


def run(step: str, store: kvstore.Store, files: list[Path]) -> Counter[str]:
    """Classify every file, print the line of this step, return how often each label was the answer."""
    classify = Classifier(store)
    labels: Counter[str] = Counter()
    before, begin = store.stats(), time.perf_counter()
    for path in under_progress_bar(files, step):
        labels[classify(path.read_bytes())["label"]] += 1
    seconds, spent = time.perf_counter() - begin, store.stats() - before
    print(
        LINE.format(
            step,
            f"{seconds:.2f}",
            f"{spent.hits:,}",
            f"{spent.misses:,}",
            f"{spent.misses - spent.absent:,}",
            f"{spent.hit_rate or 0:.1%}",
            f"{store.stats().utilization or 0:.1%}",
            f"{classify.inferences:,}",
            f"{len(files) - classify.inferences:,}",
        ),
        flush=True,
    )
    return labels


def first_process(path: Path, files: list[Path]) -> None:
    """Steps 1 and 2."""
    with kvstore.open(path, cache_size=CACHE_SIZE) as store:
        run("1  new store, computing", store, files)
        run("2  again, same process", store, files)


def second_process(path: Path, files: list[Path]) -> None:
    """Step 3: nothing is in memory yet, everything is in the file."""
    with kvstore.open(path, cache_size=CACHE_SIZE) as store:
        run("3  new process, first pass", store, files)
        labels = run("   second pass", store, files)
    shares = ", ".join(f"{label} {count:,}" for label, count in labels.most_common(5))
    print(f"\n{len(labels)} types of file, most of them {shares}")


def command(*arguments: str | Path) -> None:
    """Run ``kvstore``: the one on the search path, or else the one installed beside this Python."""
    program = shutil.which("kvstore") or Path(sysconfig.get_path("scripts"), "kvstore")
    print("$ kvstore", *(a.name if isinstance(a, Path) else a for a in arguments), flush=True)
    subprocess.run([program, *map(str, arguments)], check=True)


def dump_and_load(path: Path) -> bool:
    """Whether a second store, loaded from the first one's dump, is equal to it."""
    dump, copy = path.with_name("answers.jsonl"), path.with_name("copy.kv")
    again = path.with_name("copy.jsonl")
    command("dump", path, dump)
    command("load", copy, dump)
    command("dump", copy, again)
    same_dumps = dump.read_bytes() == again.read_bytes()
    with kvstore.open(path, readonly=True) as one, kvstore.open(copy, readonly=True) as two:
        same_contents = list(one.items()) == list(two.items())
        count = len(one)
    print(f"{count:,} records; dumps equal: {same_dumps}; contents equal: {same_contents}")
    return same_dumps and same_contents


def main() -> int:
    """Exit code: 0 where the second store is equal to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave store and dump there (new or empty)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N files")
    parser.add_argument("--second-process", type=Path, metavar="STORE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = library_files(options.limit)
    if options.second_process:
        second_process(options.second_process, files)
        return 0

    if options.keep and options.keep.exists() and any(options.keep.iterdir()):
        parser.error(f"{options.keep} is not empty: name another directory, or empty it")
    size = sum(path.stat().st_size for path in files)
    version = sys.version.split()[0]
    print(f"{len(files):,} files of Python {version}'s standard library, {size / 1e6:.0f} MB\n")
    print(LINE.format(*HEAD))
    with tempfile.TemporaryDirectory(prefix="kvstore-demo-") as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        store = place / "answers.kv"
        first_process(store, files)
        arguments = ["--second-process", str(store)]
        if options.limit:
            arguments += ["--limit", str(options.limit)]
        subprocess.run([sys.executable, __file__, *arguments], check=True)
        print()
        return 0 if dump_and_load(store) else 1


if __name__ == "__main__":
    sys.exit(main())
