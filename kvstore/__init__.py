"""A dict that survives: a persistent embedded key-value store with a memory tier in front.

>>> import kvstore
>>> with kvstore.open("features.kv") as store:                # doctest: +SKIP
...     store["cat.jpg"] = [0.25, 0.5]
"""

from __future__ import annotations

from kvstore.codec import register
from kvstore.errors import (
    CorruptRecordError,
    DumpFormatError,
    InvalidKeyError,
    KvstoreError,
    ReadOnlyError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreIOError,
    StructureTypeError,
    TransactionError,
    UnknownTypeError,
    UnstorableValueError,
)
from kvstore.keys import Key
from kvstore.stats import Counts, Stats
from kvstore.store import Namespace, Store, open

__all__ = [
    "CorruptRecordError",
    "Counts",
    "DumpFormatError",
    "InvalidKeyError",
    "Key",
    "KvstoreError",
    "Namespace",
    "ReadOnlyError",
    "Stats",
    "Store",
    "StoreBusyError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreFormatError",
    "StoreFullError",
    "StoreIOError",
    "StructureTypeError",
    "TransactionError",
    "UnknownTypeError",
    "UnstorableValueError",
    "open",
    "register",
]
