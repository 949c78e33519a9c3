"""kvstore dump: all records, as JSON Lines."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click

import kvstore.dump
from kvstore_cli import arguments, terminal

_STANDARD_OUTPUT = Path("-")


@click.command()
@arguments.STORE
@click.argument("target", default="-", type=click.Path(path_type=Path, allow_dash=True))
@arguments.PREFIX
@arguments.JSON_KEY
@click.option("-n", "--namespace", metavar="NAME", help="Only this namespace; of all of them without it.")
@arguments.MAX_LINE
def dump(store: Path, target: Path, prefix: str | None, json_key: bool, namespace: str | None, max_line: int) -> None:
    """Write all records, of every namespace, as JSON Lines.

    TARGET is a file, compressed if its name ends in .gz or .xz, or - for standard output. A file is replaced
    when the dump is complete, and not before.
    """
    start = arguments.as_prefix(prefix, json_key=json_key)
    with arguments.for_reading(store) as opened:
        if namespace is not None:
            arguments.require_namespace(opened, namespace)
        total = opened.stats().records if start is None and namespace is None else 0
        with (
            _stream(store, target) as stream,
            terminal.Meter(
                "dumped",
                lambda done: min(1.0, done / total) if total else None,
                hidden=target == _STANDARD_OUTPUT and sys.stdout.isatty(),
            ) as meter,
        ):
            kvstore.dump.write(opened, stream, prefix=start, namespace=namespace, progress=meter, max_line=max_line)


def _stream(store: Path, target: Path) -> AbstractContextManager[BinaryIO]:
    if target == _STANDARD_OUTPUT:
        return nullcontext(terminal.output())
    for part in (store, Path(f"{store}-lock"), Path(f"{store}-ring")):
        if part.exists() and target.exists() and target.samefile(part):
            raise click.BadParameter("it is the store itself", param_hint="TARGET")
    return kvstore.dump.writing(target)
