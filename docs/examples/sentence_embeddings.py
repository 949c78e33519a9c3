"""Sentence embeddings, computed once: a search through the documentation of Python's own standard library.

Each docstring becomes a vector by WordLlama, a real model of 16 MB that ships in its PyPI package. The model is asked in
batches, and only for texts that have no vector yet, so indexing a library that has grown costs what it has grown by.
"""

from __future__ import annotations

import ast
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

    from kvstore.memoize import Memoized

QUESTIONS = ("compress bytes", "the day of the week", "read lines of several files")


def embedder(store: kvstore.Store) -> Memoized[[list[str]], np.ndarray]:
    """A function from texts to an array that has a vector of length 1 for each."""
    # The package's own files; without being told so, it looks for one of them in the network.
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    @store.memoize(batch=True, max_batch=512, version="l2_supercat_256")
    def embed(texts: list[str]) -> np.ndarray:
        vectors: np.ndarray = model.embed(texts, norm=True)
        return vectors

    return embed


def docstrings(pattern: str) -> Iterator[tuple[str, str]]:
    """Name and docstring of each public function and class of the standard library's modules."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.stem}.{node.name}", text


def run(step: str, embed: Memoized[[list[str]], np.ndarray], texts: list[str]) -> np.ndarray:
    """The texts' vectors, and a line on what they took."""
    before, begin = embed.stats(), time.perf_counter()
    vectors = embed(texts)
    seconds, spent = time.perf_counter() - begin, embed.stats() - before
    print(
        f"{step:33}{seconds:8.3f} s; {spent.misses:,} computed, {spent.hits:,} from the store ({spent.hit_rate or 0:.0%}); "
        f"{spent.seconds_saved:.2f} s saved"
    )
    return vectors


def main() -> int:
    """Index a part, then more, then that again, and again in a store that is opened anew; then search."""
    a_to_c = [text for _, text in docstrings("[a-c]*.py")]
    names, texts = zip(*docstrings("[a-m]*.py"), strict=True)
    print(f"{len(texts):,} docstrings of the standard library of Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "vectors.kv")
        with kvstore.open(path) as store:
            embed = embedder(store)
            run("modules a to c, new store", embed, a_to_c)
            run("modules a to m", embed, list(texts))
            run("modules a to m, again", embed, list(texts))
        with kvstore.open(path) as store:
            embed = embedder(store)
            vectors = run("modules a to m, store opened anew", embed, list(texts))
            for question, vector in zip(QUESTIONS, embed(list(QUESTIONS)), strict=True):
                nearest = np.argsort(vectors @ vector)[::-1]
                print(f"  {question}: {', '.join(names[n] for n in nearest[:3])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
