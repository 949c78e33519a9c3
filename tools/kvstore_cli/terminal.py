"""Results on stdout, progress and errors on stderr, and nothing among them that a terminal would obey."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, Self

import click

from kvstore.dump import escape

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_INTERVAL = 0.1
"""Seconds between two looks at the progress."""


def output() -> BinaryIO:
    """Standard output, for bytes."""
    if sys.stdout is None:
        raise click.ClickException("standard output is closed")
    return sys.stdout.buffer


def input() -> BinaryIO:
    """Standard input, for bytes."""
    if sys.stdin is None:
        raise click.ClickException("standard input is closed")
    return sys.stdin.buffer


def flush() -> None:
    """Whatever was shown is written, or the error is raised that it can't be."""
    if sys.stdout is not None:
        sys.stdout.flush()


def show(text: str) -> None:
    """A line of the result, in UTF-8 whatever the locale: it may be read by another program."""
    output().write(escape(text).encode() + b"\n")


def complain(message: str) -> None:
    """One line on stderr, if anybody listens."""
    with contextlib.suppress(OSError):
        click.echo(escape(f"Error: {' '.join(message.splitlines())}"), err=True)


class Meter:
    """How far a dump or load is, on a terminal; nothing where stderr is not one.

    Called with the number of records done. Used as a context, it leaves a line behind that says how many they
    were.
    """

    def __init__(self, verb: str, share: Callable[[int], float | None], *, hidden: bool = False) -> None:
        """`share`: from the number of records done, how much of the whole that is, 0 to 1, or None."""
        self._verb = verb
        self._share = share
        self._shown = not hidden and sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + _INTERVAL
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int) -> None:
        """Show the progress, if it is time to."""
        self._done = done
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            share = self._share(done)
            percent = "" if share is None else f", {min(share, 1):4.0%}"
            self._write(f"{self._verb} {done:,} records{percent}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write("" if kind is not None else f"{self._verb} {self._done:,} records\n")

    @staticmethod
    def _write(text: str) -> None:
        """Over what the line says now."""
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
