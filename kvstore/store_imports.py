"""What the library imports only where it is needed, imported before a process forks."""

from __future__ import annotations

import sys

from kvstore.engine import is_in_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_IMPORTED_LATE: Final = (
    "copy",
    "ctypes",
    "decimal",
    "fractions",
    "lmdb._envid",
    "lmdb.verify",
    "uuid",
    "zoneinfo",
    "kvstore.array_form",
    "kvstore.backends.lmdb",
    "kvstore.backends.lmdb_fork",
    "kvstore.backends.lmdb_rewrite",
    "kvstore.backends.lmdb_walk",
    "kvstore.codec_extended",
    "kvstore.coherence",
    "kvstore.companion",
    "kvstore.dump_record",
    "kvstore.forecast",
    "kvstore.memoize",
    "kvstore.once",
    "kvstore.registry",
    "kvstore.structures_base",
    "kvstore.structures_list",
    "kvstore.structures_members",
    "kvstore.structures_moving",
    "kvstore.structures_set",
    "kvstore.transaction",
    "kvstore.verify",
    "kvstore.verify_report",
    "kvstore.verify_structures",
    "kvstore.warm",
)

_IMPORTED_WITH: Final = {"numpy": "kvstore.arrays", "ml_dtypes": "ml_dtypes"}
"""What is imported late and only where the program has imported, or is importing, a library of its choice."""


def finish_imports() -> None:
    """Import what is imported where it is needed: what one thread imports while another forks stays locked in the child."""
    from importlib import import_module

    if is_in_use():
        for name in _IMPORTED_LATE:
            import_module(name)
        for library, name in _IMPORTED_WITH.items():
            if sys.modules.get(library):  # and be it half imported, by another thread
                import_module(name)
