"""What the golden files hold: every type of key and value, namespaces, ends, lists and sets.

What stands here is what the files were made of, so nothing of it may change. A new type or a new format version gets
files, and a section here, of its own.
"""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

import kvstore

NOW = 1_700_000_000.0
"""The clock's time, in seconds, when the files were written."""

END = 253_370_764_800_000
"""When what expires does: the first of January 9999, in milliseconds."""


class Point(NamedTuple):
    """A type of a program's own."""

    x: int
    y: float


def register() -> None:
    """Tell the store of ``Point``, which a program does before it reads one."""
    kvstore.register(Point, "golden.Point", lambda point: (point.x, point.y), lambda xy: Point(*xy))


KEYS = [
    b"",
    b"\x00",
    b"\x00\xff\x00",
    b"\xff" * 300,
    "",
    "a",
    "a\x00b",
    "é😀",
    "\x1b\u202e",
    "x" * 500,
    -(2**64),
    -(2**63) - 1,
    -(2**63),
    -256,
    -255,
    -1,
    0,
    1,
    255,
    256,
    2**63,
    2**64,
    2**1000,
    (),
    ("a",),
    ("a", 1, b"\x00"),
    (("nested", ()), -1),
    ("",) * 20,
]

VALUES = {
    "none": None,
    "true": True,
    "false": False,
    "int 0": 0,
    "int 127": 127,
    "int -1": -1,
    "int -33": -33,
    "int 2**16": 2**16,
    "int -2**63": -(2**63),
    "int 2**64-1": 2**64 - 1,
    "int 2**64": 2**64,
    "int -2**200": -(2**200),
    "float": 1.5,
    "float -0": -0.0,
    "float least": 5e-324,
    "float inf": float("inf"),
    "str": "é😀\x00",
    "str empty": "",
    "str 31": "s" * 31,
    "str 32": "s" * 32,
    "str 256": "s" * 256,
    "str 70000": "s" * 70_000,
    "bytes": bytes(range(256)),
    "bytes empty": b"",
    "bytes 9000": b"b" * 9_000,
    "bytearray": bytearray(b"\x00\x01\x02"),
    "list": [1, [2.5, "a", None], []],
    "list 16": list(range(16)),
    "list 70000": [7] * 70_000,
    "dict": {"a": 1, "b": {"c": [True]}},
    "dict 16": {str(number): number for number in range(16)},
    "dict bytes": {b"a": 1, "a": 2},
    "dict others": {1: "int", (1, 2): "tuple", None: None, 1.5: frozenset({1})},
    "dict dollar": {"$bytes": "not a tag"},
    "tuple": (1, ("a", [2])),
    "tuple empty": (),
    "set": {1, "a", b"b", (2, 3)},
    "set empty": set(),
    "frozenset": frozenset({1.5, frozenset({1})}),
    "complex": complex(1, -0.0),
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 15, 123456),
    "datetime fold": dt.datetime(2024, 10, 27, 2, 30, fold=1),
    "datetime utc": dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    "datetime offset": dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "datetime named": dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=-5), "EST")),
    "datetime zone": dt.datetime(2024, 2, 29, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "date": dt.date(1, 1, 1),
    "time": dt.time(23, 59, 59, 999999),
    "time offset": dt.time(1, tzinfo=dt.timezone(dt.timedelta(microseconds=-1))),
    "timedelta": dt.timedelta(days=-1, seconds=1, microseconds=2),
    "decimal": Decimal("1.10"),
    "decimal large": Decimal("-1.5E+100"),
    "decimal infinity": Decimal("-Infinity"),
    "fraction": Fraction(-1, 3),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "uuid safe": uuid.UUID("12345678-1234-5678-1234-567812345678", is_safe=uuid.SafeUUID.safe),
    "own type": Point(1, 2.5),
    "own types": [Point(1, 2.5), {"p": Point(-1, 0.0)}],
    "array f4": np.arange(6, dtype="<f4").reshape(2, 3),
    "array f8 fortran": np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3)),
    "array i2 big": np.arange(3, dtype=">i2"),
    "array bool": np.array([True, False]),
    "array c16": np.array([1 + 2j]),
    "array str": np.array(["a", "é"], dtype="<U3"),
    "array bytes": np.array([b"a", b""], dtype="S2"),
    "array datetime": np.array(["2024-02-29", "NaT"], dtype="<M8[D]"),
    "array structured": np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8", (2,))]),
    "array empty": np.empty((0, 3), dtype="<u1"),
    "array none": np.array(7, dtype="<i8"),
    "array long": np.arange(4_096, dtype="<f4"),
    "arrays": {"a": [np.arange(2, dtype="<f4")], "b": (np.float32(1.5),)},
    "scalar f4": np.float32(1.5),
    "scalar u8": np.uint64(2**64 - 1),
    "scalar datetime": np.datetime64("2024-02-29T12:00", "m"),
    "scalar str": np.str_("é"),
}

NAMESPACES = {"n": {"a": 1, ("t", 2): [3]}, "é m": {b"k": "in é m"}}

ENDING = {"ends": {"a": [1]}, ("ends", 2): b"x" * 9_000}
"""Records of the default namespace that expire at ``END``; ``"a"`` of the namespace ``ends`` does so too."""

LISTS = {("", "list"): [1, "a", None, (2, [3]), b"\x00"], ("n", ("list", 1)): ["in n"], ("", "ending list"): [1.5]}
SETS = {("", "set"): ["a", "b", 1, b"\x00", ("t", 1)], ("n", "set"): ["in n"]}
ENDING_STRUCTURES = {("", "ending list")}


def fill(store: kvstore.Store) -> None:
    """Write all of it but the lists and sets to a new store, whose clock stands at ``NOW``."""
    ttl = END / 1000 - NOW
    for position, key in enumerate(KEYS):
        store[key] = position
    for name, value in VALUES.items():
        store["value", name] = value
    for name, items in NAMESPACES.items():
        store.namespace(name).set_many(items)
    for key, value in ENDING.items():
        store.set(key, value, ttl=ttl)
    store.namespace("ends").set("a", "ends", ttl=ttl)


def fill_structures(store: kvstore.Store) -> None:
    """Write the lists and sets."""
    for (name, key), items in LISTS.items():
        queue = within(store, name).list(key)
        queue.extend(items)
        if (name, key) in ENDING_STRUCTURES:
            queue.touch(END / 1000 - NOW)
    for (name, key), members in SETS.items():
        within(store, name).set_of(key).update(members)


def within(store: kvstore.Store, name: str) -> kvstore.Store | kvstore.Namespace:
    """The namespace of a store, or the store itself."""
    return store.namespace(name) if name else store
