"""kvstore set: one value stored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from kvstore import dump
from kvstore_cli import arguments, expiry, terminal

if TYPE_CHECKING:
    from pathlib import Path


# So that a VALUE may be a negative number. An option that doesn't exist is still one argument too many.
@click.command(context_settings={"ignore_unknown_options": True})
@arguments.STORE
@click.argument("key")
@click.argument("value")
@arguments.JSON_KEY
@arguments.NAMESPACE
@expiry.TTL
@click.option("--string", "form", flag_value="string", help="VALUE is a text, and stored as str.")
@click.option("--bytes", "form", flag_value="bytes", help="VALUE is stored as bytes.")
def set(store: Path, key: str, value: str, json_key: bool, namespace: str, ttl: float | None, form: str | None) -> None:
    """Store VALUE under KEY. A store that isn't there is made.

    VALUE is JSON, such as 5, '"text"' or '{"a": [1, 2]}', and - reads it from standard input.
    """
    wanted = arguments.as_key(key, json_key=json_key)
    raw = terminal.input().read() if value == "-" else os.fsencode(value)
    parsed = _parse(raw, form)
    with arguments.for_writing(store, create=True) as opened:
        arguments.within(opened, namespace).set(wanted, parsed, ttl=ttl)


def _parse(raw: bytes, form: str | None) -> object:
    if form == "bytes":
        return raw
    try:
        text = raw.decode()
        return text if form == "string" else dump.loads(text)
    except ValueError as error:
        hint = "" if form == "string" else "; with --string it is stored as text"
        raise click.BadParameter(f"{error}{hint}", param_hint="VALUE") from None
