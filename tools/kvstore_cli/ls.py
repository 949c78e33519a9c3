"""kvstore ls: the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvstore.dump import DumpRecord, dump_key
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
@click.option(
    "--structures", is_flag=True, help="The keys of lists and sets instead, after how many elements there are."
)
def ls(store: Path, prefix: str | None, json_key: bool, namespace: str, long: bool, structures: bool) -> None:
    """List the keys, in order.

    They are shown as JSON, one on a line: "a" is a str, 5 an int, ["a", 5] a tuple, {"$bytes": "AAE="} bytes.
    With -j the commands take them in this form. Times are in UTC, and - stands for never.
    """
    if structures and (long or prefix is not None):
        raise click.UsageError("--structures goes with neither --long nor --prefix")
    start = arguments.as_prefix(prefix, json_key=json_key)
    with arguments.for_reading(store) as opened:
        arguments.require_namespace(opened, namespace)
        if structures:
            space = arguments.within(opened, namespace)
            for key, kind in space.structures():
                count = len(space.list(key) if kind == "list" else space.set_of(key))
                terminal.show(f"{kind:<4}  {count:>12}  {dump_key(key)}")
        elif long:
            for record in opened.export_records(prefix=start, namespace=namespace):
                if not isinstance(record, DumpRecord):
                    continue
                end = expiry.shown(record.expires)
                terminal.show(f"{record.stored_bytes():>12}  {end:<20}  {dump_key(record.key)}")
        else:
            for key in arguments.within(opened, namespace).scan_keys(prefix=start):
                terminal.show(dump_key(key))
