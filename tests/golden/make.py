"""Makes the golden files that are missing: ``python -m tests.golden.make``, at the release that first writes a version.

A file that is there is left as it is. What it holds, and the bytes that say so, are promised to be readable for ever.
"""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path

import kvstore
from kvstore import dump
from tests.golden import content

FOLDER = Path(__file__).parent


def main() -> None:
    """Make the files of the versions that this library writes."""
    content.register()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "store.kv")
        with kvstore.open(path, clock=lambda: content.NOW) as store:
            content.fill(store)
            _make_dump("dump-1.jsonl.xz", store)
            content.fill_structures(store)
            _make_dump("dump-2.jsonl.xz", store)
            store.compact()
        _keep("store-1.kv.xz", lzma.compress(path.read_bytes(), preset=9))


def _make_dump(name: str, store: kvstore.Store) -> None:
    if not (FOLDER / name).exists():
        with dump.writing(FOLDER / name) as stream:
            dump.write(store, stream)
        (FOLDER / name).chmod(0o644)


def _keep(name: str, data: bytes) -> None:
    if not (FOLDER / name).exists():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
