"""A datetime64 as text, and back, as numpy itself writes it: without numpy."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final

_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_DAY: Final = date.max.toordinal()
_PER_DAY: Final[dict[str, int]] = {"D": 1, "h": 24, "m": 1440, "s": 86400} | {
    unit: 86400 * 1000**power for power, unit in enumerate(("ms", "us", "ns", "ps", "fs", "as"), 1)
}
_MOMENT: Final = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{3,18}))?)?)?)?)?)?"
)


def moment_text(number: int, unit: str) -> str:
    """The moment so many of the unit after 1970. Raises ValueError outside the years 1 to 9999."""
    if unit in "YM":
        year, month = (1970 + number, 0) if unit == "Y" else divmod(1970 * 12 + number, 12)
        if not 1 <= year <= 9999:
            raise ValueError("a year has four digits")
        return f"{year:04}" if unit == "Y" else f"{year:04}-{month + 1:02}"
    per_day = _PER_DAY.get(unit, 1)
    days, rest = divmod(number * 7 if unit == "W" else number, per_day)
    if not 1 <= _EPOCH + days <= _LAST_DAY:
        raise ValueError("a year has four digits")
    text = date.fromordinal(_EPOCH + days).isoformat()
    if per_day == 1:
        return text
    if unit == "h":
        return f"{text}T{rest:02}"
    if unit == "m":
        return f"{text}T{rest // 60:02}:{rest % 60:02}"
    second, fraction = divmod(rest, per_day // 86400)
    text = f"{text}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return text if unit == "s" else f"{text}.{str(fraction).zfill(len(str(per_day // 86400)) - 1)}"


def moment_of(text: Any, unit: str) -> int:
    """How many of the unit after 1970 a moment is. Raises ValueError and TypeError for what is none."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError("a datetime64 is not written so")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if unit in "YM":
        return year - 1970 if unit == "Y" else (year - 1970) * 12 + month - 1
    days = date(year, month, day).toordinal() - _EPOCH
    if unit == "W":
        return days // 7
    per_day = _PER_DAY[unit]
    seconds = hour * 3600 + minute * 60 + second
    fraction = int(match[7] or 0)
    return days * per_day + seconds * per_day // 86400 + fraction
