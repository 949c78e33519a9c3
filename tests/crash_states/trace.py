"""The calls to the system that ``strace`` has seen, each with the interval in which it took place.

Every string stands in hexadecimal digits (``-xx``), paths included, so none holds a quote, a bracket or a line's end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice"),
    *("ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir"),
    *("mkdirat", "rmdir", "mknod", "mknodat"),
)
"""All that can change a file, a name, or what is certain of them."""
DESCRIBING = ("open", "openat", "openat2", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek")
"""What a descriptor stands for, and where in its file it is."""
BEGETTING = ("clone", "clone3", "fork", "vfork")

NEVER = 1 << 60
"""A call that ends at this moment, or later, has not returned."""
_LINE = re.compile(r"(\d+) +(.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>", re.DOTALL)
_UNFINISHED = " <unfinished ...>"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


class TraceError(Exception):
    """The trace holds something that the harness doesn't understand, so that its states would prove nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. ``start`` and ``end`` are moments, of which no two are the same; ``end`` is out of reach where it never
    returned. ``result`` is None where there is none.
    """

    process: int
    name: str
    arguments: str
    result: int | None
    start: int
    end: int

    @property
    def strings(self) -> list[bytes]:
        """The strings among the arguments, in order: paths, data, the parts of a vector."""
        found = []
        for digits, cut in _STRING.findall(self.arguments):
            if cut:
                raise TraceError(f"{self.name} at {self.start}: a string was cut off; let strace show more (-s)")
            found.append(bytes.fromhex(digits.replace("\\x", "")))
        return found

    @property
    def numbers(self) -> list[int]:
        """The arguments that are bare numbers, in order."""
        return [int(part) for part in self.arguments.split(", ") if part.lstrip("-").isdigit()]

    @property
    def descriptor(self) -> int:
        """The descriptor that is the first argument."""
        return int(re.match(r"\d+", self.arguments)[0])

    @property
    def paths(self) -> list[str]:
        """Where ``strace`` says that the descriptors among the arguments point, in order."""
        found = re.findall(r"\w<((?:\\x[0-9a-f]{2})*)>", self.arguments)
        return [bytes.fromhex(path.replace("\\x", "")).decode(errors="surrogateescape") for path in found]


def command(output: Path) -> list[str]:
    """What to put before a command to have its calls, and those of its children, in the file."""
    wanted = ",".join((*CHANGING, *DESCRIBING, *BEGETTING))
    # Without --seccomp-bpf each of the calls that nobody asked for would stop the process, too.
    return [
        *("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", str(1 << 26)),
        *("-e", f"trace={wanted}", "-e", "signal=none", "-o", str(output)),
    ]


def parse(lines: Iterable[str]) -> list[Call]:
    """The calls of a trace, in the order in which they began."""
    begun: dict[int, tuple[int, str]] = {}
    calls: list[Call] = []
    for number, line in enumerate(lines):
        thread_text, body = _LINE.match(line.rstrip("\n")).groups()
        thread, start = int(thread_text), 2 * number
        if body.startswith(("+++", "---")):
            continue
        if body.endswith(_UNFINISHED):
            begun[thread] = start, body.removesuffix(_UNFINISHED)
            continue
        resumed = _RESUMED.match(body)
        if resumed is not None:
            start, beginning = begun.pop(thread)
            body = beginning + body[resumed.end() :]
        calls.append(_call(thread, body, start, 2 * number + 1))
    calls += [_call(thread, f"{body}) = ?", start, NEVER + thread) for thread, (start, body) in begun.items()]
    calls.sort(key=lambda call: call.start)
    return _by_process(calls)


def _call(thread: int, body: str, start: int, end: int) -> Call:
    # The last "= result" is the call's own: what comes after is a path in digits or the name of an error.
    found = _CALL.match(body)
    if found is None:
        raise TraceError(f"not a call: {body[:200]}")
    name, arguments, result = found.groups()
    return Call(thread, name, arguments, None if result == "?" else int(result), start, end)


def _by_process(calls: Sequence[Call]) -> list[Call]:
    """The calls with the process in the place of the thread: that is what descriptors belong to."""
    process_of: dict[int, int] = {}
    for call in calls:
        if call.name in BEGETTING and call.result is not None and call.result > 0 and "CLONE_THREAD" in call.arguments:
            process_of[call.result] = process_of.get(call.process, call.process)
    return [
        Call(process_of.get(call.process, call.process), call.name, call.arguments, call.result, call.start, call.end)
        for call in calls
    ]
