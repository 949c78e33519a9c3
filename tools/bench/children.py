"""Measurements that need a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def environment() -> dict[str, str]:
    """For a process that shall import what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def child(*arguments: str, bytecode: Path) -> str:
    """What a fresh interpreter with this one's search path prints.

    Its compiled modules are kept in the directory ``bytecode``: where none may be written beside the sources,
    each process would compile them anew.
    """
    variables = {**environment(), "PYTHONPYCACHEPREFIX": str(bytecode)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout
