"""The payload of a value of every type, byte by byte: what files hold, and what must stay readable."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

from kvstore.codec import Opaque

PAYLOADS = {
    "c0": None,
    "c3": True,
    "01": 1,
    "cb 80 00 00 00 00 00 00 00": -0.0,
    "a2 c3 a9": "é",
    "c4 01 00": b"\0",
    "92 01 a1 61": [1, "a"],
    "82 a1 61 01 c4 01 61 02": {"a": 1, b"a": 2},
}

EXTENDED_PAYLOADS = {
    "c7 09 01 01 00 00 00 00 00 00 00 00": 2**64,
    "c7 09 01 ff 7f ff ff ff ff ff ff ff": -(2**63) - 1,
    "d5 02 61 62": bytearray(b"ab"),
    "d8 03 3f f0 00 00 00 00 00 00 80 00 00 00 00 00 00 00": complex(1, -0.0),
    "c7 0c 04 07 e8 02 1d 0c 1e 00 00 00 00 01 01": datetime(2024, 2, 29, 12, 30, 0, 1, fold=1),
    "d8 04 07 e8 02 1d 00 00 00 00 00 00 00 00 7a 55 54 43": datetime(2024, 2, 29, tzinfo=ZoneInfo("UTC")),
    "d6 05 07 e8 02 1d": date(2024, 2, 29),
    "c7 12 06 01 02 03 00 00 00 04 00 6e ff ff ff ff ff ff ff ff 58": time(
        1, 2, 3, 4, timezone(timedelta(microseconds=-1), "X")
    ),
    "c7 11 06 01 02 03 00 00 00 04 00 75 00 00 00 00 d6 93 a4 00": time(1, 2, 3, 4, timezone(timedelta(hours=1))),
    "c7 0c 07 ff ff ff ff 00 01 51 7f 00 0f 42 3f": timedelta(microseconds=-1),
    "d6 08 31 2e 35 30": Decimal("1.50"),
    "d8 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 07": UUID(int=7),
    "92 c7 00 10 01": (1,),
    "93 c7 00 11 01 02": {2, 1},
    "92 c7 00 12 a1 61": frozenset("a"),
    "95 c7 00 13 02 c0 01 c0": {2: None, 1: None},
    "93 c7 00 14 01 03": Fraction(1, 3),
    "93 c7 00 15 a4 6e 61 6d 65 90": Opaque("name", []),
}


def name(value: object) -> str:
    """A value as a test's id: the same in every process, for those that share the tests out among them."""
    shown = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return f"{type(value).__name__} {shown}"[:40]
