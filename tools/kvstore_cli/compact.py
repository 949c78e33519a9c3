"""kvstore compact: the free pages given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvstore_cli import arguments, terminal

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@arguments.STORE
def compact(store: Path) -> None:
    """Write the file anew, as small as it can be, in one step: the old one stays until the new one is complete.

    No other process may have the store open. Shows how many bytes the file had and has.
    """
    before = store.stat().st_size if store.is_file() else 0
    with arguments.for_writing(store, create=False) as opened:
        opened.compact()
        after = opened.stats().file_bytes
    terminal.show(f"{before:,} -> {after:,} bytes")
