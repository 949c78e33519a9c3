"""A whole store as JSON Lines, and back: for backups that any tool can read, and for moving between versions.

    {"format":"kvstore dump","version":1,"namespaces":[""]}
    {"ns":"","key":"a","value":1,"expires":null}
    {"ns":"","key":["b",2],"value":{"$bytes":"AAE="},"expires":1767225600000}
    {"count":2,"sha256":"…"}

The first line says what this is, and which namespaces have records in it, sorted. Then comes each record on a
line of its own: namespace by namespace, in key order, ``expires`` in milliseconds since the epoch, null for
never. The last line has the number of records and the SHA-256 of all lines before it. It is SHA-256 because
every machine has a tool for that (``head -n -1 | sha256sum``), and because dumps that agree in it are the
same: stores can be compared by it. Text is UTF-8, and every line ends with a line feed. `kvstore.dump_json`
says how keys and values are written.

What is dumped, loaded and dumped again is the same to the byte. Memory grows with the longest line, not with
the store.
"""

from __future__ import annotations

from kvstore.array_form import StoredArray, StoredScalar
from kvstore.dump_files import packed, reading, unpacked, writing
from kvstore.dump_json import dump_key, dumps, escape
from kvstore.dump_loader import Importer, LoadReport, load
from kvstore.dump_parse import load_key, loads
from kvstore.dump_record import DumpRecord
from kvstore.dump_writer import MAX_LINE_BYTES, VERSION, DumpReport, Exporter, Progress, silent, write

__all__ = [
    "MAX_LINE_BYTES",
    "VERSION",
    "DumpRecord",
    "DumpReport",
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
