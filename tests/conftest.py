"""What every test may ask for: places to work in, the command, and hypothesis as wanted for the occasion."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Many tests start processes, each of which would compile the library and the tests where the environment wants nothing kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from kvstore import codec  # noqa: E402

ROOT = Path(__file__).parent.parent

# Before anything imports them: their assertions are to say what they have found.
pytest.register_assert_rewrite(
    "tests.mapping_contract", "tests.mapping_writing_contract", "tests.mapping_judge", "tests.tiers"
)

# No deadlines: a commit waits for the disk, and a test must not fail for the machine's mood.
hypothesis.settings.register_profile("default", deadline=None)
# The same examples in every run, so that a red run is the change's doing; new ones are sought outside CI.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_collection_finish() -> None:
    """Take what has been loaded out of the garbage collector's sight: it stays, and there is much of it to go through
    for each of the many tests that collect garbage.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_types() -> Iterator[None]:
    """No type is registered when a test begins, whatever another one has registered in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_extended_half", None)
        yield


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A test that runs the command in this process leaves it to hear signals as it did. A forked worker would inherit how the
    command hears them: by an exception, which is lost where Python lets none out, as in the hooks of a fork.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """A path at which no store is yet, in a directory that is the test's own."""
    return tmp_path / "store.kv"


@pytest.fixture
def source_tree_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes import this source tree, and find a ``kvstore`` command that does, installed or not, and this
    ``python``.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    start = "import sys; from kvstore_cli.main import main; sys.exit(main())"
    for name, options in (("kvstore", f'-c "{start}"'), ("python", "")):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {options} "$@"\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tools")]))
