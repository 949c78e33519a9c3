"""The order of the layers, read off the source: imports point downward only."""

from __future__ import annotations

import ast
import graphlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "kvstore"
COMMAND = ROOT / "tools" / "kvstore_cli"

# From the top of the house to its cellar. A file split off another one stands beside it, in the same layer.
LAYERS = (
    ("kvstore",),
    ("aio",),
    ("store*",),
    ("memo_*", "memoize"),
    ("aio_*",),
    ("transaction*", "verify"),
    ("cached*",),
    ("writing*",),
    ("reading*",),
    ("forecast*",),
    ("dump*",),
    ("memory*",),
    ("engine*",),
    ("commit*",),
    ("once",),
    ("companion",),
    ("expiry*",),
    ("coherence*",),
    ("backends", "backends.*"),
    ("record*",),
    ("codec*",),
    ("composites*",),
    ("extensions",),
    ("extensions_numpy",),
    ("arrays",),
    ("array_form",),
    ("array_types",),
    ("registry*",),
    ("refusal*",),
    ("plain",),
    ("keys*",),
    ("stats*",),
    ("frozen",),
    ("missing",),
    ("errors",),
)

# Each third-party library that kvstore imports, and the only place where it does.
HOMES = {
    "cachetools": ("memory*",),
    "lmdb": ("backends.lmdb*",),
    "ml_dtypes": ("arrays",),
    "msgpack": ("codec",),
    "numpy": ("arrays",),
    "xxhash": ("record", "expiry", "coherence", "companion"),
}

# Known to every type checker, and imported for it alone.
FOR_TYPES = {"_typeshed", "typing_extensions"}

# What the command may import besides the package itself.
PUBLIC_MODULES = {"kvstore", "kvstore.dump", "kvstore.errors"}


def sources(package: Path) -> dict[str, Path]:
    """Dotted name -> file, of every module of a package."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Dotted names of the modules that this one imports, wherever in the file and for whatever purpose."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            modules = {target for target in inner if target in known}
            found |= modules
            if modules != inner:
                found.add(base)
    return found


def layer(name: str) -> int:
    """Number of a module's layer, 0 at the top."""
    short = name.removeprefix("kvstore.")
    at = [n for n, patterns in enumerate(LAYERS) if any(fnmatchcase(short, p) for p in patterns)]
    assert len(at) == 1, f"{name} stands in {len(at)} layers: give it one place in LAYERS"
    return at[0]


MODULES = sources(LIBRARY)
GRAPH = {name: imports(name, path, MODULES) for name, path in MODULES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downward(name):
    upward = sorted(t for t in GRAPH[name] if t.split(".")[0] == "kvstore" and layer(t) < layer(name))
    assert not upward, f"{name} imports {upward}, which stand above it"


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: targets & MODULES.keys() for name, targets in GRAPH.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle


@pytest.mark.parametrize("name", MODULES)
def test_a_third_party_library_is_imported_in_one_place_only(name):
    short = name.removeprefix("kvstore.")
    for target in sorted(GRAPH[name]):
        library = target.split(".")[0]
        if library in {"kvstore", *FOR_TYPES} or library in sys.stdlib_module_names:
            continue
        assert library in HOMES, f"{name} imports {library}, which has no home in HOMES"
        assert any(fnmatchcase(short, place) for place in HOMES[library]), f"{library} is not at home in {name}"


def test_the_library_knows_nothing_of_its_command():
    for name, targets in GRAPH.items():
        assert not {t.split(".")[0] for t in targets} & {"click", "kvstore_cli"}, name


@pytest.mark.parametrize("name", sources(COMMAND))
def test_the_command_uses_only_the_public_library(name):
    command = sources(COMMAND)
    targets = imports(name, command[name], {**MODULES, **command})
    used = {t for t in targets if t.split(".")[0] == "kvstore"}
    assert used <= PUBLIC_MODULES
    assert not {t.split(".")[0] for t in targets} & HOMES.keys()


def test_an_import_that_points_upward_would_be_seen(tmp_path):
    package = tmp_path / "kvstore"
    (package / "backends").mkdir(parents=True)
    (package / "store.py").touch()
    keys = package / "keys.py"
    keys.write_text("from kvstore import errors, store\nfrom .backends import lmdb\nimport click\n")
    inner = package / "backends" / "lmdb.py"
    inner.write_text("def late():\n    from .. import keys\n    from ..store import Store\n")
    known = sources(package)
    assert set(known) == {"kvstore.backends.lmdb", "kvstore.keys", "kvstore.store"}
    assert imports("kvstore.keys", keys, known) == {
        "kvstore",
        "kvstore.store",
        "kvstore.backends.lmdb",
        "click",
    }
    assert imports("kvstore.backends.lmdb", inner, known) == {"kvstore.keys", "kvstore.store"}
    assert layer("kvstore.store") < layer("kvstore.backends.lmdb") < layer("kvstore.keys")
