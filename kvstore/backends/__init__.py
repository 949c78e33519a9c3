"""Where bytes are kept: one protocol, one module per engine.

``connect`` picks the engine that a location names. Nothing above this package knows which one it is. An engine, and the
library that it is built on, is imported when the first location of its kind is opened: a program pays for those it uses.
"""

from __future__ import annotations

import os

from kvstore.backends.protocol import (
    OWN_SPACE,
    Backend,
    Durability,
    FileUsage,
    Flaw,
    Options,
    Reading,
    Remains,
    Space,
    Writing,
)
from kvstore.errors import KvstoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvstore.backends.lmdb import LmdbBackend

__all__ = [
    "OWN_SPACE",
    "Backend",
    "Durability",
    "FileUsage",
    "Flaw",
    "Options",
    "Reading",
    "Remains",
    "Space",
    "Writing",
    "companion_of",
    "connect",
    "identify",
]


def identify(location: str | os.PathLike[str]) -> str:
    """The one name of what ``location`` points at, whichever way it is spelled: ``a.kv`` and ``./a.kv`` agree.

    Raises ``KvstoreError`` for a URL of an engine that isn't there.
    """
    text = os.fspath(location)
    if not isinstance(text, str):
        raise TypeError(f"location must be a str or os.PathLike[str], not {type(text).__name__}")
    scheme, separator, _ = text.partition("://")
    if separator:
        raise KvstoreError(f"no backend for {scheme}:// locations; give the path of a file")
    return _files().identify(text)


def companion_of(identity: str) -> str:
    """The path where processes that share what ``identify`` named keep a file of their own."""
    return _files().companion_of(identity)


def connect(identity: str, options: Options) -> Backend:
    """Open what ``identify`` named."""
    return _files()(identity, options)


def _files() -> type[LmdbBackend]:
    from kvstore.backends.lmdb import LmdbBackend

    return LmdbBackend
