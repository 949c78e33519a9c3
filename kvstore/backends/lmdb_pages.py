"""The pages of an LMDB 0.9 file, read without LMDB and with every bound checked.

LMDB follows what a page says without a doubt: a damaged one makes it find nothing, something else, or an address that is
no memory, which ends the process. So what opening a store is about to have LMDB read is read here first, and a store
whose structure is damaged is read here alone.

Layout (64-bit, the machine's byte order): a page is u64 number, u16 unused, u16 flags, u16 lower, u16 upper, and from
16 to ``lower`` a u16 for each node: where it is, from ``upper`` on. The first page of a long value has u32 pages in the place of
the bounds. A node is u32 size, u16 flags, u16 length of the key, key, and in a leaf the value, or the number of its first
page; in a branch the three first are the child's number and flags, 48 bits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from struct import Struct

from kvstore.backends.metapages import Geometry
from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LONG_VALUE: Final = 0x01
SUB_TREE: Final = 0x02
NO_PAGE: Final = (1 << 64) - 1
DEEPEST: Final = 32

_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04
_HEAD: Final = Struct("=Q 2x H H H")
_LONG_HEAD: Final = Struct("=Q 2x H I")
_NODE: Final = Struct("=I H H")
_PLACE: Final = Struct("=H")
_NUMBER: Final = Struct("=Q")
_TREE: Final = Struct("=I H H 24x Q Q")


class DamagedPageError(ValueError):
    """A page that LMDB must not be led to, or a part of one."""


class Tree(Frozen):
    """Where a tree begins."""

    root: int
    entries: int


def tree_in(value: bytes) -> Tree:
    """The tree that a record of LMDB's tells of, as the value of a database's name. Raises ``DamagedPageError``."""
    if len(value) != _TREE.size:
        raise DamagedPageError("the record of a database has another size")
    unused, flags, depth, entries, root = _TREE.unpack(value)
    if unused or flags or depth > DEEPEST:
        # Flags would have LMDB compare keys in another way, or expect other nodes.
        raise DamagedPageError(f"the record of a database has flags 0x{flags:x} and depth {depth}")
    return Tree(root, entries)


class Node:
    """One node. Of a branch ``child`` is a page number, of a leaf ``flags`` and ``size`` are those of the value."""

    __slots__ = ("_at", "_size", "child", "flags", "key", "page", "size")

    def __init__(self, page: Page, at: int, key: bytes, size: int, flags: int) -> None:
        self.page = page
        self._at = at
        self.key = key
        self.size = size
        self.flags = flags
        self.child = size | flags << 32

    @property
    def taken(self) -> int:
        """How many bytes of the page it takes; even, as every node."""
        return (self._place - self._at + self._inside + 1) & ~1

    @property
    def _place(self) -> int:
        return self._at + _NODE.size + len(self.key)

    @property
    def _inside(self) -> int:
        if self.page.is_branch:
            return 0
        return _NUMBER.size if self.flags & LONG_VALUE else self.size

    def content(self) -> bytes:
        """What the page has of the value. Raises ``DamagedPageError``."""
        if self._place + self._inside > len(self.page.data):
            raise DamagedPageError(f"page {self.page.number}: a value goes beyond the page")
        return self.page.data[self._place : self._place + self._inside]


class Page:
    """A branch or leaf."""

    __slots__ = ("_upper", "count", "data", "is_branch", "number")

    def __init__(self, number: int, data: bytes) -> None:
        found, flags, lower, upper = _HEAD.unpack_from(data)
        if found != number:
            raise DamagedPageError(f"page {number} says that it is page {found}")
        if flags not in (_BRANCH, _LEAF):
            raise DamagedPageError(f"page {number} is neither a branch nor a leaf: flags 0x{flags:x}")
        if not _HEAD.size <= lower <= upper <= len(data) or lower % 2:
            raise DamagedPageError(f"page {number} says that its free room is from {lower} to {upper}")
        self.number = number
        self.data = data
        self.is_branch = flags == _BRANCH
        self.count = (lower - _HEAD.size) // _PLACE.size
        self._upper: int = upper
        # LMDB takes a branch with fewer for a failure of its own, and aborts.
        if self.count < (2 if self.is_branch else 1):
            raise DamagedPageError(f"page {number} has {self.count} nodes")

    def accounts_for(self, nodes: Iterable[Node]) -> bool:
        """Whether the nodes fill what is not free: LMDB leaves no gaps."""
        taken: int = sum(node.taken for node in nodes)
        return taken >= len(self.data) - self._upper

    def is_packed(self) -> bool:
        """Whether the nodes lie side by side in all that is not free, as LMDB leaves them. Where one says that it is longer
        than it is, LMDB would move what isn't in the page, and harm its own memory.
        """
        data, at = self.data, self._upper
        places = memoryview(data)[_HEAD.size : _HEAD.size + self.count * _PLACE.size].cast("H")
        for place in sorted(places):
            if place != at or at > len(data) - _NODE.size:
                return False
            size, flags, length = _NODE.unpack_from(data, at)
            inside = 0 if self.is_branch else _NUMBER.size if flags & LONG_VALUE else size
            at += (_NODE.size + length + inside + 1) & ~1
        return bool(at == len(data))

    def node(self, index: int) -> Node:
        """A node, without its value. Raises ``DamagedPageError``."""
        (at,) = _PLACE.unpack_from(self.data, _HEAD.size + index * _PLACE.size)
        if not self._upper <= at <= len(self.data) - _NODE.size:
            raise DamagedPageError(f"page {self.number}: node {index} is said to be at {at}")
        size, flags, length = _NODE.unpack_from(self.data, at)
        start = at + _NODE.size
        if start + length > len(self.data):
            raise DamagedPageError(f"page {self.number}: the key of node {index} goes beyond the page")
        return Node(self, at, self.data[start : start + length], size, flags)


class Pages:
    """The pages of one file, as of one commit. Whoever reads many keeps writers away."""

    def __init__(self, descriptor: int, geometry: Geometry) -> None:
        self._descriptor = descriptor
        self._geometry = geometry
        whole = os.fstat(descriptor).st_size // geometry.page_size
        self._last = min(geometry.last_page, whole - 1)
        self.is_short = whole <= geometry.last_page
        """Whether pages are missing at the end: they may never have been written, and be free."""
        self.main = Tree(geometry.main_root, 0)
        """The main database."""

    def page(self, number: int) -> Page:
        """A branch or leaf. Raises ``DamagedPageError``."""
        size = self._geometry.page_size
        self._check(number, 1)
        data = os.pread(self._descriptor, size, number * size)
        if len(data) < size:
            raise DamagedPageError(f"page {number} is beyond the end of the file")
        return Page(number, data)

    def find(self, tree: Tree, key: bytes) -> Node | None:
        """The node of a key, or None. Looks at exactly what LMDB looks at, in its order. Raises ``DamagedPageError``."""
        number = tree.root
        if number == NO_PAGE:
            return None
        for _ in range(DEEPEST):
            page = self.page(number)
            low, high = int(page.is_branch), page.count - 1
            while low <= high:
                middle = (low + high) >> 1
                found = page.node(middle).key
                if found == key:
                    high = middle
                    break
                if found < key:
                    low = middle + 1
                else:
                    high = middle - 1
            else:
                if not page.is_branch:
                    return None
            node = page.node(high)
            if not page.is_branch:
                return node
            number = node.child
        raise DamagedPageError(f"the tree of page {tree.root} is deeper than {DEEPEST} pages")

    def value(self, node: Node) -> bytes:
        """The value of a leaf's node. Raises ``DamagedPageError``."""
        if node.flags & ~(LONG_VALUE | SUB_TREE):
            # For one, LMDB would go to the duplicates of the key, of which it has been told that there are none.
            raise DamagedPageError(f"page {node.page.number}: a value has flags 0x{node.flags:x}")
        content = node.content()
        if not node.flags & LONG_VALUE:
            return content
        first, count = self._extent(node, content)
        start = first * self._geometry.page_size
        head = os.pread(self._descriptor, _LONG_HEAD.size, start)
        # Compared before that much memory is asked for.
        if len(head) < _LONG_HEAD.size or _LONG_HEAD.unpack(head) != (first, _OVERFLOW, count):
            raise DamagedPageError(f"page {first} is not the first of {count} pages of a long value")
        value = os.pread(self._descriptor, node.size, start + _LONG_HEAD.size)
        if len(value) < node.size:
            raise DamagedPageError(f"the long value on page {first} goes beyond the end of the file")
        return value

    def check_long(self, page: Page) -> None:
        """Raise ``DamagedPageError`` where a long value of a leaf goes beyond the end of the file."""
        for node in map(page.node, range(page.count)):
            if node.flags & LONG_VALUE:
                self._extent(node, node.content())

    def _extent(self, node: Node, content: bytes) -> tuple[int, int]:
        """The first page of a long value, and how many it has."""
        (first,) = _NUMBER.unpack(content)
        count = (_LONG_HEAD.size - 1 + node.size) // self._geometry.page_size + 1
        self._check(first, count)
        return first, count

    def free(self) -> Iterator[int]:
        """The pages that are free, as far as that can be read."""
        with contextlib.suppress(DamagedPageError):
            for page, _, _ in self.leaves(Tree(self._geometry.free_root, 0)):
                for index in range(page.count):
                    with contextlib.suppress(DamagedPageError):
                        numbers = self.value(page.node(index))
                        # The first one says how many follow.
                        yield from memoryview(numbers[_NUMBER.size : len(numbers) & ~7]).cast("Q")

    def leaves(self, tree: Tree) -> Iterator[tuple[Page, bytes, bytes | None]]:
        """Every leaf in order, with the range [low, high) in which a search comes to it. Raises ``DamagedPageError``."""
        return (found for found in self.walk(tree) if not found[0].is_branch)

    def walk(self, tree: Tree) -> Iterator[tuple[Page, bytes, bytes | None]]:
        """As ``leaves``, with every branch before what it leads to."""
        if tree.root != NO_PAGE:
            yield from self._walk(tree.root, b"", None, DEEPEST)

    def _walk(
        self, number: int, low: bytes, high: bytes | None, deepest: int
    ) -> Iterator[tuple[Page, bytes, bytes | None]]:
        page = self.page(number)
        yield page, low, high
        if not page.is_branch:
            return
        if not deepest:
            raise DamagedPageError(f"page {number} is deeper than {DEEPEST} pages")
        node = page.node(0)
        for index in range(1, page.count + 1):
            following = page.node(index) if index < page.count else None
            yield from self._walk(node.child, low, high if following is None else following.key, deepest - 1)
            if following is not None:
                node, low = following, following.key

    def _check(self, number: int, count: int) -> None:
        if not 2 <= number <= number + count - 1 <= self._last:
            raise DamagedPageError(f"there is no page {number}, or not {count} from there on")
