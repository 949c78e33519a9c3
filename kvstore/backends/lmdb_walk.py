"""Whether the pages of an LMDB file hang together, told without LMDB, which trusts what it reads."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def structural_problems(path: str) -> list[str]:
    """What is wrong with the structure of the file at ``path``; nothing in a sound one. Raises ``OSError``."""
    from lmdb import verify  # seldom needed, and a third of the cost of importing lmdb

    walk: Any = verify._Verifier

    class Walk(walk):  # type: ignore[misc]  # which has no types
        """py-lmdb's walk over all pages, which takes an extent of overflow pages for damaged unless it is as short as its
        value allows.

        LMDB leaves it longer where a transaction puts a smaller value in the place of one that it has itself written. Such
        an extent is as long as its first page says, and is freed whole.
        """

        def _bigdata(self, ctx: Any, pgno: int, i: int, buf: Any, doff: int, dsize: int, want_bytes: bool) -> Any:
            room = 0
            if not self.eng["has_txnid"] and doff + 8 <= self.psize:
                first = self.read_page(int.from_bytes(buf[doff : doff + 8], sys.byteorder))
                room = 0 if first is None else self._pg_pages(first, 0) * self.psize - self.hdrsz
            # As of a value that fills the extent: so it is the extent's own length that everything is checked against.
            data = super()._bigdata(ctx, pgno, i, buf, doff, max(dsize, room), want_bytes)
            return None if data is None else data[:dsize]

    with open(path, "rb") as file:
        try:
            problems: list[str] = Walk(file, os.fstat(file.fileno()).st_size).verify()
        except verify.VerifyError as error:
            return [str(error)]
    return problems
