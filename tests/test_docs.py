"""Every code block of README.md and docs/ is executed as it stands, each page in a directory of its own.

``python`` blocks of a page share one namespace; one that starts with ``>>>`` is a doctest. ``console`` blocks
are run by a shell, ``$ command`` followed by what it prints, with ``...`` for what differs from run to run.
"""

from __future__ import annotations

import contextlib
import doctest
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# Blocks in these languages are shown and not run: commands that set up or take long, formats, outputs.
SHOWN = {"json", "sh", "text"}

# What most blocks of a page need, of the optional libraries; a single block has `skip: next if(...)` before it.
NEEDED = {"arrays.md": ["numpy"]}


def run_console(example):
    """Failure message of the first command that printed something else, None when all did as shown."""
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", example.parsed, re.MULTILINE):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
        got = done.stdout + done.stderr
        if not doctest.OutputChecker().check_output(expected.rstrip() + "\n", got.rstrip() + "\n", LOOSE):
            return f"$ {command}\nexpected:\n{expected}\ngot:\n{got}"
    return None


def parse(page):
    document = Document.parse(
        str(page),
        SkipParser(),
        PythonCodeBlockParser(doctest_optionflags=LOOSE),
        CodeBlockParser("console", run_console),
    )
    document.namespace["is_installed"] = lambda library: find_spec(library) is not None
    return document


@pytest.fixture
def workplace(tmp_path, monkeypatch, source_tree_on_path):
    """An empty directory to run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_is_what_happens(page, workplace):
    for library in NEEDED.get(page.name, ()):
        pytest.importorskip(library)
    for example in parse(page).examples():
        with contextlib.suppress(SkipTest):  # of one block, for a library that isn't installed
            example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_block_escapes_execution_for_want_of_a_language(page):
    fences = re.findall(r"^ *(?:```+|~~~+)(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences[::2]) <= SHOWN | {"python", "console"}
    assert not any(fences[1::2])


def test_the_readme_shows_the_api():
    assert sum("kvstore.open" in str(example.parsed) for example in parse(ROOT / "README.md").examples()) >= 1


def test_a_page_that_is_wrong_would_be_seen(tmp_path, workplace):
    page = tmp_path / "wrong.md"
    for block in ("python\nassert 1 == 2\n", "python\n>>> 1 + 1\n3\n", "console\n$ echo one\ntwo\n"):
        page.write_text(f"# Wrong\n\n```{block}```\n")
        (example,) = parse(page).examples()
        with pytest.raises(AssertionError):
            example.evaluate()


def test_every_test_that_the_page_on_reliability_names_is_there():
    named = set(re.findall(r"\btests/[\w/]+\.(?:py|c)\b", (ROOT / "docs" / "reliability.md").read_text()))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
