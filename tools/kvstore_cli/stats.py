"""kvstore stats: the file's figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kvstore.dump import dumps
from kvstore_cli import arguments, terminal

if TYPE_CHECKING:
    from pathlib import Path

_FIGURES = ("records", "file_bytes", "used_bytes", "reclaimable_bytes", "oldest_reader_lag")


@click.command()
@arguments.STORE
@click.option("--json", "as_json", is_flag=True, help="Show them as one JSON object.")
def stats(store: Path, as_json: bool) -> None:
    """Show the figures of the file.

    How many records it has, in all namespaces, with those that have expired and are not purged yet; how many
    bytes, how many of them hold something, and how many are free for later writes; and by how many commits the
    oldest open read, of any process, lags behind, since what those have freed can't be used yet. Then how many
    records that have not expired the default namespace has, which is "", and each of the others.
    """
    with arguments.for_reading(store) as opened:
        now = opened.stats()
        spaces = {name: len(arguments.within(opened, name)) for name in ("", *opened.namespaces())}
    figures: dict[str, int] = {name: getattr(now, name) for name in _FIGURES}
    if as_json:
        terminal.show(json.dumps({**figures, "namespaces": spaces}, ensure_ascii=False))
    else:
        for name, figure in figures.items():
            terminal.show(f"{name:<17} {figure:>20,}")
        for name, figure in spaces.items():
            terminal.show(f"{dumps(name):<17} {figure:>20,}")
