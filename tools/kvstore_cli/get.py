"""kvstore get: one value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kvstore.dump import dump_key, dumps, escape
from kvstore_cli import arguments, terminal

if TYPE_CHECKING:
    from pathlib import Path

    import kvstore


@click.command()
@arguments.STORE
@click.argument("key")
@arguments.JSON_KEY
@click.option("--raw", is_flag=True, help="Write a str or bytes as it is, without quotes and line end.")
def get(store: Path, key: str, json_key: bool, raw: bool) -> None:
    """Show the value of KEY, as JSON on one line."""
    wanted = arguments.as_key(key, json_key=json_key)
    try:
        with arguments.for_reading(store) as opened:
            value = _find(opened, wanted)
    except KeyError:
        raise click.ClickException(f"no such key: {dump_key(wanted)}") from None
    if raw:
        terminal.output().write(_bytes(value))
    else:
        terminal.show(dumps(value))


def _find(opened: kvstore.Store, key: kvstore.Key) -> object:
    """The value of a key, with the registered types in it left as they are. KeyError if there is none."""
    if isinstance(key, int):
        return opened[key]
    # What begins with a key begins with that key itself.
    for record in opened.export_records(prefix=key, namespace=""):
        if record.key == key:
            return record.value
        break
    raise KeyError(key)


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        text, data = value, value.encode()
    elif isinstance(value, bytes | bytearray):
        text, data = value.decode("utf-8", "replace"), bytes(value)
    else:
        raise click.ClickException(f"--raw is for str and bytes, and the value is a {type(value).__name__}")
    lines = text.replace("\n", "").replace("\t", "")
    if sys.stdout.isatty() and ("\ufffd" in lines or escape(lines) != lines):
        raise click.ClickException("the value has characters that a terminal would obey; send --raw to a file or pipe")
    return data
