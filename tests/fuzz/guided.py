"""``python -m tests.fuzz.guided TARGET [-runs=N ...]``: inputs that atheris makes, so that they get further into the code.

Needs the extra ``fuzz``. What follows the target is libFuzzer's: its options, and a folder to keep inputs in.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["kvstore"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]()
    for sample in target.samples:
        target.run(sample)
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()
