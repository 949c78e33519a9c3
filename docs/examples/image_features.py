"""Image features, computed once: which of scikit-image's pictures looks most like which.

A picture is described by its histogram of oriented gradients (HOG; Dalal and Triggs, CVPR '05), which takes far longer to
compute than to read. The store keeps it under the hash of the picture's bytes: the same picture under another name is found,
and a changed one is computed anew.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.io import imread
from skimage.transform import resize

import kvstore


def compute(picture: bytes) -> list[float]:
    """The picture's features."""
    image = imread(io.BytesIO(picture))
    gray = rgb2gray(image[..., :3]) if image.ndim == 3 else image
    return hog(resize(gray, (256, 256)), pixels_per_cell=(32, 32), cells_per_block=(2, 2)).tolist()


class Features:
    """Features by way of a store; ``computed`` counts how often they were not there yet."""

    def __init__(self, store: kvstore.Store) -> None:
        self.store = store
        self.computed = 0

    def __call__(self, picture: bytes) -> list[float]:
        return self.store.get_or_set(hashlib.sha256(picture).digest(), lambda: self.compute(picture))

    def compute(self, picture: bytes) -> list[float]:
        self.computed += 1
        return compute(picture)


def run(step: str, store: kvstore.Store, pictures: dict[str, bytes]) -> dict[str, np.ndarray]:
    """Every picture's features, and a line on what they took."""
    features, before, begin = Features(store), store.stats(), time.perf_counter()
    found = {name: np.array(features(picture)) for name, picture in pictures.items()}
    seconds, spent = time.perf_counter() - begin, store.stats() - before
    print(f"{step:22}{seconds:8.3f} s{features.computed:6} computed{spent.hits:6} hits{spent.hit_rate or 0:8.1%}")
    return found


def main() -> int:
    """Twice in a new store, and twice in one that is opened anew; then the pictures that look alike."""
    folder = Path(skimage.data.__file__).parent
    files = sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])
    pictures = {path.name: path.read_bytes() for path in files}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "features.kv")
        with kvstore.open(path) as store:
            run("new store", store, pictures)
            run("again", store, pictures)
        with kvstore.open(path) as store:
            run("opened anew", store, pictures)
            features = run("again", store, pictures)
    for name in ("motorcycle_left.png", "brick.png"):
        others = {other: float(np.linalg.norm(features[name] - features[other])) for other in features if other != name}
        print(f"{name} looks most like {min(others, key=others.__getitem__)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
