"""Whether what would be published works: build it, install it into a clean environment, use it there.

The sdist is built from the source tree and the wheel from the sdist: a file missing from either shows.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ROUND_TRIP = """
import sys
import kvstore

path = sys.argv[1]
with kvstore.open(path) as store:
    store["greeting"] = {"text": "hello", "count": 1}
with kvstore.open(path, readonly=True) as store:
    assert store["greeting"] == {"text": "hello", "count": 1}
    assert list(store) == ["greeting"]
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, on success; its output and a ``SystemExit`` otherwise."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"check_wheel: {' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


def expect(holds: object, message: str) -> None:
    """Leave with ``message`` unless ``holds``."""
    if not holds:
        raise SystemExit(f"check_wheel: {message}")


def check_contents(wheel: Path, sdist: Path) -> None:
    """The wheel holds library, type marker and command, no more; the sdist what tests and docs need."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    info = next(top for top in tops if top.endswith(".dist-info"))
    expect(tops == {"kvstore", "kvstore_cli", info}, f"the wheel holds {sorted(tops)}")
    for name in ("kvstore/py.typed", "kvstore_cli/main.py", f"{info}/licenses/LICENSE"):
        expect(name in names, f"{name} is not in the wheel")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("tests/conftest.py", "tools/bench/__main__.py", "docs/tutorial.md", "Makefile", "LICENSE"):
        expect(name in inside, f"{name} is not in the sdist")
    strays = [name for name in inside if "__pycache__" in name or ".venv" in name]
    expect(not strays, f"the sdist holds {strays}")


def check_command(binaries: Path, cwd: Path, version: str) -> None:
    """The installed library and command do a round trip, in a directory far from the source tree."""
    run(binaries / "python", "-I", "-c", ROUND_TRIP, cwd / "library.kv", cwd=cwd)
    command = binaries / "kvstore"
    expect(version in run(command, "--version", cwd=cwd), f"kvstore --version doesn't say {version}")
    expect("dump" in run(command, "--help", cwd=cwd), "kvstore --help doesn't show dump")
    dump = run(command, "dump", "library.kv", "-", cwd=cwd)
    expect('"greeting"' in dump, f"kvstore dump printed {dump!r}")
    run(command, "dump", "library.kv", "library.dump.gz", cwd=cwd)
    run(command, "load", "second.kv", "library.dump.gz", cwd=cwd)
    expect(run(command, "dump", "second.kv", "-", cwd=cwd) == dump, "dump -> load -> dump differs")


def main() -> None:
    """Build, look inside, install, use."""
    with tempfile.TemporaryDirectory(prefix="kvstore-wheel-") as name:
        place = Path(name)
        run(sys.executable, "-m", "build", "--outdir", place / "dist", ROOT, cwd=place)
        (wheel,) = (place / "dist").glob("*.whl")
        (sdist,) = (place / "dist").glob("*.tar.gz")
        check_contents(wheel, sdist)
        venv.create(place / "venv", with_pip=True)
        binaries = place / "venv" / "bin"
        pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", wheel, cwd=place)
        run(*pip, "check", cwd=place)
        check_command(binaries, place, version=wheel.name.split("-")[1])
    print(f"check_wheel: {wheel.name} and {sdist.name} build, install and work")


if __name__ == "__main__":
    main()
