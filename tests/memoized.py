"""Memoized functions that processes import: where their store is, and the log of what ran, the environment says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import kvstore

store = kvstore.open(os.environ["MEMOIZED_STORE"], durability="none")
log = Path(os.environ["MEMOIZED_LOG"])


def note(text):
    """A line of the log, whole among those of others."""
    with log.open("a") as file:
        file.write(f"{text}\n")


@store.memoize(version=1)
def square(n, pause=0.0):
    note(f"square {n}")
    time.sleep(pause)
    return [n * n]


@store.memoize(batch=True, max_batch=4, ignore="pause")
def squares(numbers, pause=0.0):
    for number in numbers:
        note(f"squares {number}")
    time.sleep(pause)
    return [number * number for number in numbers]


def both(n):
    """What a worker of a pool does."""
    return square(n), squares([n, n + 1])
