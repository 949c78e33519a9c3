"""Image features, computed once: which of scikit-image's pictures looks most like which.

A picture is described by its histogram of oriented gradients (HOG; Dalal and Triggs, CVPR '05), which takes far longer to
compute than to read. The results are arrays, kept under the content of the picture: the same picture under another name is
found, a changed one is described anew.
"""

from __future__ import annotations

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

SIDE, CELL = 256, 32  # pixels


def describe(picture: bytes) -> np.ndarray:
    """The features of a picture, given as the bytes of its file."""
    image = imread(io.BytesIO(picture))
    gray = rgb2gray(image[..., :3]) if image.ndim == 3 else image
    features: np.ndarray = hog(resize(gray, (SIDE, SIDE)), pixels_per_cell=(CELL, CELL), cells_per_block=(2, 2))
    return features.astype(np.float32)


def run(step: str, store: kvstore.Store, pictures: dict[str, bytes]) -> dict[str, np.ndarray]:
    """Every picture's features, and a line on what they took."""
    features = store.memoize(version=f"{SIDE}/{CELL}")(describe)
    before, begin = store.stats(), time.perf_counter()
    found = {name: features(picture) for name, picture in pictures.items()}
    seconds, spent, memory = time.perf_counter() - begin, features.stats(), store.stats() - before
    print(
        f"{step:12}{seconds:8.3f} s; {spent.misses} computed, {spent.hits} from the store ({spent.hit_rate or 0:.0%}), "
        f"{memory.hits} of these from memory; {spent.seconds_saved:.2f} s saved"
    )
    return found


def main() -> int:
    """Twice in a new store, and twice in one that is opened anew; then the pictures that look alike."""
    folder = Path(skimage.data.__file__).parent
    pictures = {path.name: path.read_bytes() for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "features.kv")
        with kvstore.open(path) as store:
            run("new store", store, pictures)
            run("again", store, pictures)
        with kvstore.open(path) as store:
            run("opened anew", store, pictures)
            features = run("again", store, pictures)
    for name in ("motorcycle_left.png", "grass.png"):
        distances = {
            other: float(np.linalg.norm(features[name] - features[other])) for other in features if other != name
        }
        print(f"{name} looks most like {min(distances, key=distances.__getitem__)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
