"""kvstore verify: everything that is wrong with a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import click

from kvstore.dump import dump_key, dumps
from kvstore_cli import arguments, terminal

if TYPE_CHECKING:
    from pathlib import Path

    import kvstore


@click.command()
@arguments.STORE
def verify(store: Path) -> None:
    """Check the structure of the file, every record's checksum and value, lists and sets, and the index of what expires.

    Each problem is a line: its kind (structure, lost, key, record or expiry), for a record its namespace and key, and what
    is the matter. Of records that are lost it is the first key, and the one that comes after them. Then the exit code is 1. A
    damaged record can be deleted, or restored from a backup; where the structure is damaged, stop using the store and restore
    the whole of it. Writers wait while the structure is checked.
    """
    with _opened(store) as opened, terminal.Meter("checked", lambda _: None) as meter:
        report = opened.verify(progress=meter)
    for problem in report.problems:
        where = "" if problem.kind == "structure" else f" {dumps(problem.namespace)} {_key(problem.key)}"
        if problem.kind == "lost":
            where += f" to {_key(problem.until)}"
        terminal.show(f"{problem.kind}{where}: {problem.message}")
    if not report.ok:
        many = len(report.problems)
        raise click.ClickException(f"{store}: {many:,} problem{'s' * (many != 1)}")
    terminal.show(f"{report.records:,} records, no problems")


def _opened(store: Path) -> kvstore.Store:
    # Opened for writing, since only a writer can make other writers wait.
    if os.path.lexists(store) and not os.access(store, os.W_OK):
        return arguments.for_reading(store)
    return arguments.for_writing(store, create=False)


def _key(key: object) -> str:
    """A key as ls shows it; of what is none, its bytes; of what isn't known, three dots."""
    if key is None:
        return "..."
    return dump_key(cast("kvstore.Key", key))
