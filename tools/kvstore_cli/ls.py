"""kvstore ls: the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvstore.dump import dump_key
from kvstore_cli import arguments, expiry, terminal

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@arguments.STORE
@arguments.PREFIX
@arguments.JSON_KEY
@arguments.NAMESPACE
@click.option(
    "-l", "--long", is_flag=True, help="Before each key, the size of its record in bytes, and when it expires."
)
def ls(store: Path, prefix: str | None, json_key: bool, namespace: str, long: bool) -> None:
    """List the keys, in order.

    They are shown as JSON, one on a line: "a" is a str, 5 an int, ["a", 5] a tuple, {"$bytes": "AAE="} bytes.
    With -j the commands take them in this form. Times are in UTC, and - stands for never.
    """
    start = arguments.as_prefix(prefix, json_key=json_key)
    with arguments.for_reading(store) as opened:
        arguments.require_namespace(opened, namespace)
        if long:
            for record in opened.export_records(prefix=start, namespace=namespace):
                end = expiry.shown(record.expires)
                terminal.show(f"{record.stored_bytes():>12}  {end:<20}  {dump_key(record.key)}")
        else:
            for key in arguments.within(opened, namespace).scan_keys(prefix=start):
                terminal.show(dump_key(key))
