"""A whole store as JSON Lines, and back: for backups that any tool can read, and for moving between versions.

    {"format":"kvstore dump","version":2,"namespaces":[""]}
    {"ns":"","list":"seen","expires":null}
    {"item":"a film"}
    {"item":{"$bytes":"AAE="}}
    {"ns":"","set":"tags","expires":null}
    {"member":"blue"}
    {"ns":"","key":"a","value":1,"expires":null}
    {"ns":"","key":["b",2],"value":{"$bytes":"AAE="},"expires":1767225600000}
    {"count":7,"sha256":"…"}

The first line says what this is, and which namespaces have something in it, sorted. Then comes namespace by namespace: its
lists and sets in key order, each on a line, followed by its elements in order, each on a line of its own; then each record
on a line of its own, in key order. ``expires`` is in milliseconds since the epoch, null for never. The last line has the
number of lines between it and the first, and the SHA-256 of all lines before it. It is SHA-256 because every machine has a
tool for that (``head -n -1 | sha256sum``), and because dumps that agree in it are the same: stores can be compared by it.
Text is UTF-8, and every line ends with a line feed. `kvstore.dump_json` says how keys and values are written. Without a
list or a set the version is 1, whose readers know of neither.

What is dumped, loaded and dumped again is the same to the byte. Memory grows with the longest line, not with
the store.
"""

from __future__ import annotations

from kvstore.array_form import StoredArray, StoredScalar
from kvstore.dump_files import packed, reading, unpacked, writing
from kvstore.dump_json import dump_key, dumps, escape
from kvstore.dump_loader import Importer, LoadReport, load
from kvstore.dump_parse import load_key, loads
from kvstore.dump_record import DumpItem, DumpMember, DumpRecord, DumpStructure
from kvstore.dump_writer import MAX_LINE_BYTES, VERSION, DumpReport, Exporter, Progress, silent, write

__all__ = [
    "MAX_LINE_BYTES",
    "VERSION",
    "DumpItem",
    "DumpMember",
    "DumpRecord",
    "DumpReport",
    "DumpStructure",
    "Exporter",
    "Importer",
    "LoadReport",
    "Progress",
    "StoredArray",
    "StoredScalar",
    "dump_key",
    "dumps",
    "escape",
    "load",
    "load_key",
    "loads",
    "packed",
    "reading",
    "silent",
    "unpacked",
    "write",
    "writing",
]
