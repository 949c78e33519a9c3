"""kvstore backup: a copy of the store, while it is in use."""

from __future__ import annotations

from pathlib import Path

import click

from kvstore_cli import arguments


@click.command()
@arguments.STORE
@click.argument("target", type=click.Path(path_type=Path))
def backup(store: Path, target: Path) -> None:
    """Copy the store to TARGET as it is at this moment, whoever has it open and writes to it.

    The copy is compact, flushed to the disk, and has the permissions of the store. It appears at its path whole or
    not at all, and never in the place of another file.
    """
    with arguments.for_reading(store) as opened:
        opened.backup(target)
