"""kvstore get: one value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kvstore.dump import dumps, escape
from kvstore_cli import arguments, expiry, terminal

if TYPE_CHECKING:
    from pathlib import Path

    import kvstore
    from kvstore.dump import DumpRecord


@click.command()
@arguments.STORE
@click.argument("key")
@arguments.JSON_KEY
@arguments.NAMESPACE
@click.option("--raw", is_flag=True, help="Write a str or bytes as it is, without quotes and line end.")
@click.option("--ttl", is_flag=True, help="Show how many seconds it still lasts instead, null for ever.")
def get(store: Path, key: str, json_key: bool, namespace: str, raw: bool, ttl: bool) -> None:
    """Show the value of KEY, as JSON on one line."""
    wanted = arguments.as_key(key, json_key=json_key)
    with arguments.for_reading(store) as opened:
        record = _find(opened, wanted, namespace)
    if ttl:
        terminal.show(dumps(expiry.seconds_left(record.expires)))
    elif raw:
        terminal.output().write(_bytes(record.value))
    else:
        terminal.show(dumps(record.value))


def _find(opened: kvstore.Store, key: kvstore.Key, namespace: str) -> DumpRecord:
    """The record of a key, with the registered types in its value left as they are."""
    arguments.within(opened, namespace)
    record = opened.export_record(key, namespace=namespace)
    if record is None:
        raise arguments.no_such_key(key, namespace=namespace)
    return record


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
