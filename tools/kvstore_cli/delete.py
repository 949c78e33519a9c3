"""kvstore del: keys removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvstore_cli import arguments

if TYPE_CHECKING:
    from pathlib import Path


@click.command("del")
@arguments.STORE
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@arguments.JSON_KEY
@arguments.NAMESPACE
def delete(store: Path, keys: tuple[str, ...], json_key: bool, namespace: str) -> None:
    """Remove each KEY. Where one is not there, the others are removed all the same."""
    wanted = [arguments.as_key(key, json_key=json_key) for key in keys]
    with arguments.for_writing(store, create=False) as opened:
        space = arguments.within(opened, namespace)
        missing = [key for key in wanted if not space.delete(key)]
    if missing:
        raise arguments.no_such_key(*missing, namespace=namespace)
