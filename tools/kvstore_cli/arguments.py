"""What the commands have in common: the store, keys and prefixes as they are typed."""

from __future__ import annotations

import os
from pathlib import Path

import click

import kvstore
from kvstore import dump
from kvstore.errors import InvalidKeyError

STORE = click.argument("store", type=click.Path(path_type=Path))

JSON_KEY = click.option(
    "-j",
    "--json-key",
    is_flag=True,
    help='Keys are given as JSON, as ls shows them: 5, "a", ["a", 5], {"$bytes": "AAE="}.',
)

PREFIX = click.option("--prefix", metavar="PREFIX", help="Only keys that begin with this.")

NAMESPACE = click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    default="",
    help="The namespace to work in; without this, the default one.",
)

MAX_LINE = click.option(
    "--max-line",
    type=int,
    metavar="BYTES",
    default=dump.MAX_LINE_BYTES,
    show_default=True,
    help="The longest line that a dump may have.",
)


def as_key(text: str, *, json_key: bool, of: str = "KEY") -> kvstore.Key:
    """The key that was typed: the text itself, or what it says in JSON. BadParameter where it says none."""
    if not json_key:
        return text
    try:
        return dump.load_key(text)
    except (InvalidKeyError, ValueError) as error:
        raise click.BadParameter(f"it is no key as JSON: {error}", param_hint=of) from None


def as_prefix(text: str | None, *, json_key: bool) -> str | bytes | tuple[kvstore.Key, ...] | None:
    """The prefix that was typed, in the same ways."""
    if text is None:
        return None
    prefix = as_key(text, json_key=json_key, of="--prefix")
    if isinstance(prefix, int):
        raise click.BadParameter("an int has no prefixes", param_hint="--prefix")
    return prefix


def within(opened: kvstore.Store, namespace: str) -> kvstore.Store | kvstore.Namespace:
    """The space of a store that the name means."""
    return opened.namespace(namespace) if namespace else opened


def require_namespace(opened: kvstore.Store, namespace: str) -> None:
    """Refuse the name of a namespace that has no records: it is a slip of the pen, more often than not."""
    if namespace and namespace not in opened.namespaces():
        raise click.ClickException(f"no such namespace: {dump.dumps(namespace)}")


def no_such_key(*keys: kvstore.Key, namespace: str) -> click.ClickException:
    """What to say of keys that are not there."""
    where = f" in namespace {dump.dumps(namespace)}" if namespace else ""
    return click.ClickException(f"no such key{where}: {', '.join(map(dump.dump_key, keys))}")


def _require(path: Path) -> None:
    if not os.path.lexists(path):
        raise click.ClickException(f"{path}: there is no such store")


def for_reading(path: Path) -> kvstore.Store:
    """The store at a path, which must be there, opened so that nothing is written to it."""
    _require(path)
    return kvstore.open(path, readonly=True, cache_size=0)


def for_writing(path: Path, *, create: bool) -> kvstore.Store:
    """The store at a path. Where none is, it is made if `create`, and refused otherwise."""
    if not create:
        _require(path)
    return kvstore.open(path, create=create, cache_size=0)
