"""``python -m tests.fuzz.guided TARGET [-runs=N ...]``: inputs that atheris makes, so that they get further into the code.

It begins with the target's samples. Needs the extra ``fuzz``; what follows the target are libFuzzer's own options.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kvstore"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]()
    with tempfile.TemporaryDirectory() as folder:
        for number, sample in enumerate(target.samples):
            target.run(sample)
            (Path(folder) / str(number)).write_bytes(sample)
        atheris.Setup([*sys.argv, folder], target.run)
        atheris.Fuzz()
