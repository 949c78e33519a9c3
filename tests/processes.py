"""Another process with the same store, doing what it is told over a pipe."""

from __future__ import annotations

import ast
import contextlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from tests.conftest import ROOT


class Process:
    """A Python process with ``kvstore`` imported and ``store`` open. Calling it with code gives what its last line gives.

    Names that are handed over become variables there, and stay. An exception there is raised here.
    """

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.processes"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self("import kvstore, os, time; store = kvstore.open(path, **options)", path=path, options=options)

    def __call__(self, code: str, **names: Any) -> Any:
        self.start(code, **names)
        return self.answer()

    def start(self, code: str, **names: Any) -> None:
        """Tell it what to do, and don't wait for it."""
        assert self._child.stdin is not None
        pickle.dump((code, names), self._child.stdin)
        self._child.stdin.flush()

    def answer(self) -> Any:
        """What came of what it was told last."""
        assert self._child.stdout is not None
        given, error = pickle.load(self._child.stdout)
        if error is not None:
            raise error
        return given

    def kill(self) -> None:
        """``kill -9``."""
        self._child.kill()
        self._child.wait()

    def end(self) -> None:
        """Let it end by itself, if it hasn't ended yet."""
        with contextlib.suppress(BrokenPipeError), self._child:
            pass


@contextlib.contextmanager
def another_process(path: Path, **options: Any) -> Iterator[Process]:
    """A process that has the store at ``path`` open."""
    process = Process(path, {"durability": "none", **options})
    try:
        yield process
    finally:
        process.end()


def _serve() -> None:
    names: dict[str, Any] = {}
    while True:
        try:
            code, more = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        names.update(more)
        answer: tuple[Any, Exception | None]
        try:
            answer = (_evaluate(code, names), None)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised over there
            answer = (None, error)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.flush()


def _evaluate(code: str, names: dict[str, Any]) -> Any:
    body = ast.parse(code).body
    last = body[-1]
    if not isinstance(last, ast.Expr):
        exec(code, names)  # noqa: S102
        return None
    before: CodeType = compile(ast.Module(body[:-1], []), "<told>", "exec")
    exec(before, names)  # noqa: S102
    return eval(compile(ast.Expression(last.value), "<told>", "eval"), names)  # noqa: S307


if __name__ == "__main__":
    _serve()
