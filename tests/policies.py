"""Eviction policies as users write them: subclasses of cachetools' own, each with a will of its own."""

from __future__ import annotations

import itertools
from typing import Any

import cachetools


class Brief(cachetools.TTLCache[Any, Any]):
    """Drops what is old, by itself and without ``popitem``. Its clock moves on whenever it is looked at."""

    def __init__(self, maxsize):
        super().__init__(maxsize, ttl=40, timer=itertools.count().__next__)


class Three(cachetools.LRUCache[Any, Any]):
    """Keeps at most three entries, whatever they cost."""

    def __setitem__(self, key, value, **options):
        super().__setitem__(key, value, **options)
        while len(self) > 3:
            self.popitem()


class Choosy(cachetools.LFUCache[Any, Any]):
    """Takes in one key of two, and says nothing of it."""

    asked = 0

    def __setitem__(self, key, value, **options):
        self.asked += 1
        if self.asked % 2:
            super().__setitem__(key, value, **options)


class Refusing(cachetools.FIFOCache[Any, Any]):
    """Refuses every third key, in the way that cachetools refuses what is too large."""

    asked = 0

    def __setitem__(self, key, value, **options):
        self.asked += 1
        if self.asked % 3 == 0:
            raise ValueError("value too large")
        super().__setitem__(key, value, **options)


class Failing(cachetools.LRUCache[Any, Any]):
    """Fails where something is asked for."""

    def __getitem__(self, key):
        raise RuntimeError("of the policy's own")


class Sweeping(cachetools.LRUCache[Any, Any]):
    """Makes room by ``del``, half of the entries at a time, so that ``popitem`` never hears of it."""

    def __setitem__(self, key, value, **options):
        if len(self) >= 8:
            for old in list(self)[:4]:
                del self[old]
        super().__setitem__(key, value, **options)


OWN = (Brief, Three, Choosy, Refusing, Sweeping)
NAMED = ("lru", "fifo", "lfu", "random")
