"""One open file of this process: its backend, its log of changes, its committer; shared by every handle of it.

An LMDB file must be open once in a process, and notebooks open theirs again and again. So a second ``open`` of the same
file gets the engine of the first, and the last handle to close closes the file.
"""

from __future__ import annotations

import os
import threading
from typing import NoReturn

from kvstore.backends import Backend, Options, connect, identify
from kvstore.coherence import Changes, ProcessChanges
from kvstore.commit import Committer
from kvstore.errors import StoreBusyError, StoreClosedError

_engines: dict[str, Engine] = {}
_lock = threading.Lock()


class Engine:
    """What the handles of one file share. Made by ``acquire``, given back by ``release``."""

    def __init__(self, identity: str, options: Options) -> None:
        self.identity = identity
        self.options = options
        self.backend: Backend = connect(identity, options)
        self.changes: Changes = ProcessChanges()
        self.committer = Committer(self.backend, self.changes)
        self.handles = 0

    @classmethod
    def acquire(cls, location: str | os.PathLike[str], options: Options) -> Engine:
        """The engine of what is at ``location``, opened where this process hasn't.

        Raises ``StoreBusyError`` where the process has it open with options that can't be shared.
        """
        identity = identify(location)
        with _lock:
            engine = _engines.get(identity)
            if engine is None:
                engine = _engines[identity] = cls(identity, options)
            else:
                engine.require(options)
            engine.handles += 1
            return engine

    def require(self, wanted: Options) -> None:
        """Refuse what a handle can't share with the ones that are open."""
        backend = self.backend
        if backend.replaced():
            raise StoreBusyError(
                f"{backend.identity} was replaced by another file while this process has it open; "
                "close the older handles first"
            )
        if backend.readonly and not wanted.readonly:
            raise StoreBusyError(
                f"{backend.identity} is open in this process with readonly=True; close that handle first"
            )
        for name in ("durability", "max_size"):
            mine, theirs = getattr(self.options, name), getattr(wanted, name)
            if mine != theirs and not wanted.readonly:
                raise StoreBusyError(
                    f"{backend.identity} is open in this process with {name}={mine!r}; "
                    f"close that handle first, or open this one with the same {name}"
                )

    def release(self) -> None:
        """One handle less; the last one closes the file."""
        with _lock:
            self.handles -= 1
            if not self.handles:
                try:
                    self.backend.close()
                finally:
                    del _engines[self.backend.identity]


class ClosedEngine:
    """What a closed handle has in place of its engine."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def refuse(self, *_: object) -> NoReturn:
        """Raise ``StoreClosedError``."""
        raise StoreClosedError(f"{self.identity}: the store has been closed; open it again")

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse()
