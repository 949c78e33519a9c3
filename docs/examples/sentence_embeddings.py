"""Sentence embeddings, computed once: a search through the documentation of Python's own standard library.

Each docstring becomes a vector by WordLlama, a real model of 16 MB that ships in its PyPI package. A store keeps the vectors
under the text's hash, so the next index, of a changed library, costs what has changed. Only what is missing goes to the
model, in one batch; what comes back is stored in one transaction.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import wordllama

import kvstore

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTIONS = ("delete a directory and everything in it", "how many days until a date", "compress bytes")


class Embedder:
    """Vectors of texts by way of a store; ``computed`` counts those that weren't there yet."""

    def __init__(self, store: kvstore.Store) -> None:
        # The package's own files; without being told so, it looks for one of them in the network.
        home = Path(wordllama.__file__).parent
        self.model = wordllama.WordLlama.load(cache_dir=home, disable_download=True)
        self.store = store
        self.computed = 0

    def __call__(self, texts: list[str]) -> np.ndarray:
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        found = self.store.get_many(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            vectors = self.model.embed(list(missing.values()), norm=True)
            computed = dict(zip(missing, (vector.tobytes() for vector in vectors), strict=True))
            self.store.set_many(computed)
            self.computed += len(computed)
            found |= computed
        return np.array([np.frombuffer(found[key], np.float32) for key in keys])


def docstrings(pattern: str) -> Iterator[tuple[str, str]]:
    """Name and docstring of what the modules of the standard library define."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob(pattern)):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(module):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    name = path.stem if isinstance(node, ast.Module) else f"{path.stem}.{node.name}"
                    yield name, text


def run(step: str, embed: Embedder, texts: list[str]) -> np.ndarray:
    """The texts' vectors, and a line on what they took."""
    before, computed, begin = embed.store.stats(), embed.computed, time.perf_counter()
    vectors = embed(texts)
    seconds, spent = time.perf_counter() - begin, embed.store.stats() - before
    print(f"{step:32}{seconds:8.3f} s{embed.computed - computed:7,} computed{spent.hit_rate or 0:8.1%} hits")
    return vectors


def main() -> int:
    """Index a part, then all of it, then again, and again in a store that is opened anew; then search."""
    some, everything = list(docstrings("[a-m]*.py")), list(docstrings("*.py"))
    names, texts = [name for name, _ in everything], [text for _, text in everything]
    print(f"{len(texts):,} docstrings of {sys.version.split()[0]}'s standard library")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "vectors.kv")
        with kvstore.open(path) as store:
            embed = Embedder(store)
            run("modules a to m, new store", embed, [text for _, text in some])
            run("all modules", embed, texts)
            run("all modules, again", embed, texts)
        with kvstore.open(path) as store:
            embed = Embedder(store)
            vectors = run("all modules, store opened anew", embed, texts)
            for question in QUESTIONS:
                nearest = np.argsort(vectors @ embed([question])[0])[::-1]
                print(f"  {question}: {', '.join(dict.fromkeys(names[n] for n in nearest[:3]))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
