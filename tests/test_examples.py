"""The programs under docs/examples/, run as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

# The network's stand-in: as slow to import as nothing, and it says how often it was asked.
MAGIKA = """
from types import SimpleNamespace

class Magika:
    def identify_bytes(self, content):
        output = SimpleNamespace(label="python", group="code", mime_type="text/x-python")
        return SimpleNamespace(output=output, score=len(content) / 7)
"""


def figures(line):
    """The numbers of a line of the demo's table, without its first column."""
    return [float(number.replace(",", "")) for number in re.findall(r"\s([\d,.]+)(?=%|\s|$)", line[27:])]


def test_the_demo_computes_once_and_then_hits_in_memory_and_in_the_file(tmp_path, monkeypatch, source_tree_on_path):
    (tmp_path / "magika.py").write_text(MAGIKA)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    keep = tmp_path / "kept"
    script = [sys.executable, str(EXAMPLES / "classify_stdlib.py"), "--limit", "40", "--keep", str(keep)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress bar where there is no terminal"
    table = [figures(line) for line in done.stdout.splitlines() if re.match(r"[123 ]  \S", line)]
    new, again, restarted, second_pass = table
    _, hits, misses, in_file, hit_rate, utilization, inferences, saved = new
    assert (hits + misses, inferences, in_file, saved) == (40, misses, 0, hits)
    assert again[1:5] == [40, 0, 0, 100]
    assert restarted[1:4] == [hits, misses, misses]
    assert second_pass[1:5] == [40, 0, 0, 100]
    assert [row[6:] for row in (again, restarted, second_pass)] == [[0, 40]] * 3
    assert 0 <= hit_rate < 100
    assert 0 < utilization < 100
    assert "dumps equal: True; contents equal: True" in done.stdout
    assert (keep / "answers.kv").exists()

    refused = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
