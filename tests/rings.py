"""The log of changes in memory, and what it may be told."""

from __future__ import annotations

import contextlib
import itertools

from kvstore import keys
from kvstore.coherence import Ring

STORE = (7, 11)
SLOTS = 1024
"""So many commits a ring knows at the most."""


class File:
    """A ring's file in memory."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.left = None

    memory = None

    def read(self, size, position):
        return bytes(self.data[position : position + size])

    def write(self, data, position):
        if self.left is not None:
            data, self.left = data[: self.left], max(0, self.left - len(data))
        if data:
            self.data.extend(bytes(max(0, position + len(data) - len(self.data))))
            self.data[position : position + len(data)] = data

    @contextlib.contextmanager
    def losing_all_but(self, left):
        """Within the block all that is written is lost but the first so many bytes."""
        self.left = left
        yield
        self.left = None


class Going:
    """The writers that go on: the ring's own, and those in ``on``."""

    def __init__(self):
        self.on = set()

    def __call__(self, writer):
        return writer in self.on


NUMBERS = itertools.count(1)
"""Of writers, each of which is another one."""


def a_ring(file=None, store=STORE, going=None):
    """The ring as a writer of its own has it, whom nobody knows to go on unless ``going`` says so."""
    file = File() if file is None else file
    ring = Ring(file, store, Going() if going is None else going)
    if not file.data:
        ring.reset()
    ring.writer = next(NUMBERS)
    return ring


def log(ring, commit, *changed):
    """Tell the ring of a commit, by the way that is meant for so many changes, and that it has come about."""
    if len(changed) == 1 and not changed[0][0]:
        ring.publish_one(commit, changed[0][1])
    else:
        ring.publish(commit, changed)
    ring.settle()


def change(name, space=""):
    """A change of the value under that name, as rings are told of it."""
    return space, keys.encode(name)
