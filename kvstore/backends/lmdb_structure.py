"""The structure of a store's file, judged without LMDB: what opening relies on, what is wrong with it, and what can be read
of it all the same. Nothing here judges records: that is done above, by checksum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from itertools import pairwise

from kvstore.backends.lmdb_pages import DEEPEST, NO_PAGE, SUB_TREE, DamagedPageError, Node, Page, Pages, Tree, tree_in
from kvstore.backends.lmdb_read import NAMES_START, NAMESPACE, database_name, space_of
from kvstore.backends.metapages import read_geometry
from kvstore.backends.protocol import OWN_SPACE, Flaw, Space
from kvstore.errors import StoreCorruptError, StoreFormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

_ATTEMPTS: Final = 50
_UNREADABLE = b""
"""The record where there is none to be read: too short for any."""


def follow(path: str, database: bytes, key: bytes) -> None:
    """Go the way that LMDB will go to a key of a named database, so that LMDB doesn't have to be the first one.

    Raises ``StoreCorruptError`` where the way is damaged, ``StoreFormatError`` where the file is of another kind. That there is
    none is left to be found by LMDB.
    """
    with open(path, "rb", buffering=0) as file:
        for _ in range(_ATTEMPTS):
            geometry = read_geometry(path)
            if geometry.main_flags:
                raise StoreFormatError(
                    f"{path} is an LMDB file, but not of kvstore, or its meta page is damaged; choose another path, or restore it"
                )
            try:
                _go(Pages(file.fileno(), geometry), database, key)
            except DamagedPageError as damage:
                # Others may commit faster than this reads, and use the pages again that it is reading.
                if read_geometry(path) == geometry:
                    raise StoreCorruptError(
                        f"{path} is damaged: {damage}. Restore it from a backup or a dump"
                    ) from damage
            else:
                return


def _go(pages: Pages, database: bytes, key: bytes) -> None:
    named = pages.find(pages.main, database)
    if named is None:
        return
    found = pages.find(tree_in(pages.value(named)), key)
    if found is not None:
        pages.value(found)


def misleading(path: str, own: Collection[Space] | None) -> list[str]:
    """What keeps LMDB from finding what is there, or would have it destroy that when it writes, in a file whose pages are its
    own: a branch that leads to another leaf than the one that has the key, nodes that overlap, a database that is said to be of
    another kind, or has a name that is none.

    ``own`` are the library's own spaces that may be there; None where it isn't known.
    """
    problems: list[str] = []
    with open(path, "rb", buffering=0) as file:
        pages = Pages(file.fileno(), read_geometry(path))
        trees = [("main", pages.main)]
        try:
            while trees:
                name, tree = trees.pop()
                for page, low, high in pages.walk(tree):
                    if not page.is_packed():
                        problems.append(f"{name}: the nodes of page {page.number} overlap, or leave gaps")
                    if page.is_branch:
                        continue
                    if pages.is_short:
                        # lmdb.verify looks at the first page of a long value alone.
                        pages.check_long(page)
                    first, last = page.node(0).key, page.node(page.count - 1).key
                    if first < low or (high is not None and last >= high):
                        problems.append(
                            f"{name}: what is on page {page.number} is not found, as a branch leads elsewhere"
                        )
                    for named in _named(page) if tree is pages.main else ():
                        space = space_of(named.key) if named.flags & SUB_TREE else None
                        if space is None or (own is not None and space.startswith(OWN_SPACE) and space not in own):
                            problems.append(
                                f"{named.key!r} is neither a key nor the name of a database of this kvstore"
                            )
                        else:
                            trees.append((space, tree_in(pages.value(named))))
        except DamagedPageError as error:
            problems.append(str(error))
    return problems


def _named(page: Page) -> Iterator[Node]:
    if page.node(page.count - 1).key >= NAMES_START:
        yield from (node for node in map(page.node, range(page.count)) if node.key >= NAMES_START)


@contextlib.contextmanager
def remains(path: str) -> Iterator[Remains]:
    """What is left of the file at ``path``, to which nobody writes meanwhile."""
    with open(path, "rb", buffering=0) as file:
        geometry = read_geometry(path)
        yield Remains(Pages(file.fileno(), geometry), geometry.txn_id)


class Remains:
    """What is left, as ``protocol.Remains``."""

    def __init__(self, pages: Pages, id: int) -> None:
        self.id = id
        self.flaws: list[Flaw] = []
        self._pages = pages
        self.free = set(pages.free())
        """The pages that are said to be free."""
        self._lost: set[tuple[Space, int, int]] = set()
        self._trees: dict[Space, Tree] = {"": pages.main}
        for node, space in self._names():
            try:
                self._trees[space] = tree_in(pages.value(node))
            except DamagedPageError as error:
                self.flaws.append(Flaw(space, None, None, f"nothing in it can be read: {error}"))

    def translating(self) -> contextlib.AbstractContextManager[Self]:
        return contextlib.nullcontext(self)

    def get(self, space: Space, key: bytes) -> bytes | None:
        node = self._found(space, key)
        return None if node is None else self._record(node)

    def scan(
        self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for node in self._nodes(space, start, stop):
            if space or not node.flags & SUB_TREE or node.key < NAMES_START:
                yield node.key, self._record(node)

    scan_beyond = scan

    def scan_keys(self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False) -> Iterator[bytes]:
        return (node.key for node in self._nodes(space, start, stop))

    def first_key(self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False) -> bytes | None:
        return next(self.scan_keys(space, start, stop), None)

    def count(self, space: Space) -> int:
        return self._trees[space].entries if space in self._trees else 0

    def spaces(self) -> list[Space]:
        return [space for space in self._trees if space and database_name(space).startswith(NAMESPACE)]

    def reaches(self, space: Space, key: bytes) -> bool:
        return self._found(space, key) is not None

    def _names(self) -> Iterator[tuple[Node, Space]]:
        for node in self._nodes("", NAMES_START, None):
            space = space_of(node.key) if node.flags & SUB_TREE else None
            if space is not None:
                yield node, space

    def _found(self, space: Space, key: bytes) -> Node | None:
        with contextlib.suppress(DamagedPageError):
            return self._pages.find(self._trees.get(space, Tree(NO_PAGE, 0)), key)
        return None

    def _record(self, node: Node) -> bytes:
        try:
            return self._pages.value(node)
        except DamagedPageError:
            return _UNREADABLE

    def _nodes(self, space: Space, start: bytes, stop: bytes | None) -> Iterator[Node]:
        tree = self._trees.get(space)
        if tree is not None and tree.root != NO_PAGE:
            walk = _Walk(self, space, start, stop)
            yield from walk.nodes(tree.root, None, None)

    def _lose(self, space: Space, page: int, node: int, low: bytes | None, high: bytes | None, why: str) -> None:
        if (space, page, node) not in self._lost:
            self._lost.add((space, page, node))
            self.flaws.append(Flaw(space, low, high, why))


class _Walk:
    """One way through a tree, which comes to each page once."""

    def __init__(self, remains: Remains, space: Space, start: bytes, stop: bytes | None) -> None:
        self._remains = remains
        self._space = space
        self._start = start
        self._stop = stop
        self._seen: set[int] = set()
        # Where many small ranges are asked for. Otherwise a damaged branch must hide nothing.
        self._prunes = space.startswith(OWN_SPACE)

    def nodes(self, number: int, low: bytes | None, high: bytes | None, depth: int = 0) -> Iterator[Node]:
        """The nodes of leaves in the range. ``low`` and ``high`` are what branches say of the keys under this page."""
        if self._prunes and (
            (high is not None and high <= self._start)
            or (low is not None and self._stop is not None and low >= self._stop)
        ):
            return
        try:
            page = self._remains._pages.page(number)
        except DamagedPageError as error:
            self._lose(number, -1, low, high, error)
            return
        if number in self._seen or depth == DEEPEST:
            self._lose(number, -1, low, high, f"page {number} is come to twice")
            return
        self._seen.add(number)
        if number in self._remains.free:
            self._lose(number, -1, low, high, f"page {number} is free")
        found: list[Node | None] = [self._node(page, index) for index in range(page.count)]
        keys = [None if node is None else node.key for node in found]
        if page.is_branch:
            keys[0] = None
        else:
            self._judge_order(number, keys, low, high)
            if not page.accounts_for(node for node in found if node is not None):
                last = next((key for key in reversed(keys) if key is not None), low)
                self._lose(
                    number, page.count, last, high, f"page {number} has nodes of which it doesn't say where they are"
                )
        for index, node in enumerate(found):
            after = next((key for key in keys[index + 1 :] if key is not None), high)
            if node is None:
                before = next((key for key in reversed(keys[:index]) if key is not None), low)
                self._lose(number, index, before, after, f"page {number}: there is no node {index}")
            elif page.is_branch:
                yield from self.nodes(node.child, low if keys[index] is None else keys[index], after, depth + 1)
            elif self._start <= node.key and (self._stop is None or node.key < self._stop):
                yield node

    def _judge_order(self, number: int, keys: list[bytes | None], low: bytes | None, high: bytes | None) -> None:
        """Of keys that are not in their place it can't be said which one is damaged, nor what it was."""
        there = [key for key in keys if key is not None]
        if any((low is not None and key < low) or (high is not None and key >= high) for key in there):
            self._lose(number, -1, low, high, f"page {number} has keys that belong elsewhere")
        around = [low, *there, high]
        for index, (one, other) in enumerate(pairwise(there)):
            if one >= other:
                self._lose(number, index, around[index], around[index + 3], f"page {number}: its keys are not in order")

    def _lose(self, page: int, node: int, low: bytes | None, high: bytes | None, why: object) -> None:
        self._remains._lose(self._space, page, node, low, high, str(why))

    def _node(self, page: Page, index: int) -> Node | None:
        with contextlib.suppress(DamagedPageError):
            return page.node(index)
        return None
