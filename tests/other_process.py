"""Another process that does what it is told, a line at a time."""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parent.parent

_LISTENER = """
import ast, sys
names = {}
for line in sys.stdin:
    code = ast.literal_eval(line)
    try:
        try:
            given = eval(code, names)
        except SyntaxError:
            given = exec(code, names)
        print(("gives", given), flush=True)
    except Exception as error:
        print(("raises", type(error).__name__, str(error)), flush=True)
"""


class OtherProcess:
    """A Python that runs code given as text, and answers with plain values. Dies with its ``with`` block."""

    def __init__(self, *preparation: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LISTENER],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for code in preparation:
            self(code)

    def __call__(self, code: str) -> Any:
        """What the expression gives, or None after a statement. ``RuntimeError`` where it raises."""
        self.tell(code)
        return self.answer()

    def tell(self, code: str) -> None:
        """Begin running the code."""
        self._process.stdin.write(f"{code!r}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what was told."""
        kind, *rest = ast.literal_eval(self._process.stdout.readline())
        if kind == "raises":
            raise RuntimeError(*rest)
        return rest[0]

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._process.stdin.close()
        self._process.stdout.close()


def with_store(path: Path, **options: Any) -> OtherProcess:
    """Another process that has the store open, as ``store``."""
    return OtherProcess("import kvstore", f"store = kvstore.open({str(path)!r}, **{options!r})")


@contextlib.contextmanager
def a_process(path: Path) -> Iterator[OtherProcess]:
    """Another process that has the store open as ``store``, without waiting for the disk, and ``os`` and ``time``."""
    with with_store(path, durability="none") as process:
        process("import os, time")
        yield process


def with_plain_lmdb(path: Path) -> OtherProcess:
    """Another process that writes to the file without this library: ``put(key, value)``, ``delete(key)``."""
    return OtherProcess(
        "import lmdb; from kvstore import keys, codec, record",
        f"env = lmdb.open({str(path)!r}, subdir=False, max_dbs=8, create=False, map_size=1 << 30)",
        "def put(key, value):\n"
        "    encoded = keys.encode(key)\n"
        "    with env.begin(write=True) as txn:\n"
        "        txn.put(encoded, record.pack(encoded, *codec.encode(value), None))",
        "def delete(key):\n    with env.begin(write=True) as txn:\n        txn.delete(keys.encode(key))",
    )
