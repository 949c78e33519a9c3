"""Importing the library is cheap: it loads nothing heavy that its dependencies don't load anyway."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore import store as store_module

DEPENDENCIES = "lmdb, msgpack, cachetools, xxhash"

# Each takes longer than many a module of the library, with what it imports in turn. What type checkers alone need
# stands under `if TYPE_CHECKING:`; what few programs need is imported in the function that does.
HEAVY = {
    "asyncio",
    "copy",
    "ctypes",
    "dataclasses",
    "decimal",
    "enum",
    "fractions",
    "gzip",
    "hashlib",
    "inspect",
    "json",
    "logging",
    "lzma",
    "numpy",
    "pathlib",
    "platform",
    "re",
    "secrets",
    "subprocess",
    "tempfile",
    "typing",
    "uuid",
    "zoneinfo",
    "kvstore.aio",
    "kvstore.array_form",
    "kvstore.arrays",
    "kvstore.dump",
    "kvstore.forecast",
    "kvstore.memoize",
    "kvstore.once",
    "kvstore.structures_base",
    "kvstore.structures_list",
    "kvstore.structures_set",
    "kvstore.transaction",
    "kvstore.verify",
    "kvstore.warm",
}


OPTIONAL = {"kvstore.arrays", "ml_dtypes"}
"""Imported late, but not before a fork where the program has not imported numpy or ml_dtypes itself."""


def loaded_by(statements):
    """Names of the modules that the last statement loads beyond what the ones before it have."""
    *before, last = statements
    code = "\n".join(
        ["import sys", *before, "known = set(sys.modules)", last, "print(*sorted(set(sys.modules) - known))"]
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_importing_the_library_loads_nothing_heavy():
    loaded = loaded_by([f"import {DEPENDENCIES}", "import kvstore"])
    assert "kvstore.store" in loaded
    assert not loaded & {*HEAVY, "kvstore.codec_extended"}


def test_storing_what_msgpack_has_loads_nothing_heavy(tmp_path):
    path = str(tmp_path / "store.kv")
    use = f"""
with kvstore.open({path!r}) as store:
    store["key"] = {{"a": [1, 2.0, None, b"b"], "b": (1, {{2}})}}
    assert store["key"]["b"] == (1, {{2}})
"""
    loaded = loaded_by([f"import {DEPENDENCIES}", "import kvstore", use])
    assert not loaded & HEAVY


def test_a_type_whose_module_is_imported_later_is_storable(tmp_path):
    path = str(tmp_path / "store.kv")
    code = f"""
import sys, kvstore
store = kvstore.open({path!r})
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo
from datetime import datetime
zoned = datetime(2024, 1, 2, tzinfo=ZoneInfo("UTC"))
for value in (Decimal("1.10"), Fraction(1, 3), UUID(int=7), zoned, {{Decimal(1): UUID(int=1)}}):
    store["key"] = value
    assert store["key"] == value
    with kvstore.open({path!r}, cache_size=0) as fresh:
        assert fresh["key"] == value and type(fresh["key"]) is type(value)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_type_whose_module_is_not_imported_is_readable(tmp_path):
    path = str(tmp_path / "store.kv")
    write = """
import kvstore, decimal, fractions, uuid
with kvstore.open(P) as s: s["k"] = [decimal.Decimal("0.5"), uuid.UUID(int=5), fractions.Fraction(1, 2)]
"""
    read = "import kvstore\nwith kvstore.open(P) as s: print(s['k'], s['k'], s.stats().hits)"
    shown = [
        subprocess.run(
            [sys.executable, "-c", code.replace("P", repr(path), 1)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for code in (write, read)
    ]
    values = "[Decimal('0.5'), UUID('00000000-0000-0000-0000-000000000005'), Fraction(1, 2)]"
    assert shown[1].strip() == f"{values} {values} 1"


def imported_late():
    """Names of the modules that functions of the library import, those for tools and the asyncio face left out."""
    found = set()
    for path in Path(store_module.__file__).parent.rglob("*.py"):
        if path.name.startswith(("dump", "aio")):
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import):
                        found |= {alias.name for alias in node.names}
                    elif isinstance(node, ast.ImportFrom):
                        within = {f"{node.module}.{alias.name}" for alias in node.names}
                        found |= {name for name in within if name == "lmdb.verify"} or {node.module}
    return found - {"importlib"}


def test_whatever_is_imported_late_is_imported_before_a_fork(tmp_path):
    late = imported_late() - OPTIONAL
    assert late >= {"kvstore.transaction", "kvstore.codec_extended", "decimal"}
    code = f"""
import kvstore, os, sys
with kvstore.open({str(tmp_path / "store.kv")!r}) as store:
    if os.fork() == 0:
        print(*sys.modules, flush=True)
        os._exit(0)
    os.wait()
"""
    forked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert late <= set(forked.stdout.split())
    assert not OPTIONAL & set(forked.stdout.split())


def test_what_goes_with_numpy_is_imported_before_a_fork_where_numpy_is(tmp_path):
    pytest.importorskip("numpy")
    code = f"""
import kvstore, numpy, os, sys
with kvstore.open({str(tmp_path / "store.kv")!r}) as store:
    if os.fork() == 0:
        print(*sys.modules, flush=True)
        os._exit(0)
    os.wait()
"""
    forked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "kvstore.arrays" in forked.stdout.split()
