"""When records end, as it is shown and as it is asked for."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

import click

_LONGEST = 1e15
"""Seconds; some 30 million years."""


def _checked(_context: click.Context, _parameter: click.Parameter, seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds <= _LONGEST:
        raise click.BadParameter(f"it must be above 0 and at most {_LONGEST:.0e} seconds, not {seconds}")
    return seconds


TTL = click.option(
    "--ttl",
    type=float,
    metavar="SECONDS",
    callback=_checked,
    help="The record expires after so many seconds; without this, never.",
)


def shown(expires: int | None) -> str:
    """Milliseconds since the epoch as a time in UTC, rounded down to a second; ``-`` for never."""
    if expires is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(expires // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "after 9999"


def seconds_left(expires: int | None) -> float | None:
    """From now until then; None for never."""
    return None if expires is None else max(0.0, math.floor(expires - time.time() * 1000) / 1000)
