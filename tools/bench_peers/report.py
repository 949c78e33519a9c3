"""Tables of the report, in Markdown: a line for each contender, whoever wins."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.__main__ import amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Cell = float | str


@dataclass
class Table:
    """Contenders down, cases across; a cell is a figure, or says why there is none."""

    title: str
    unit: str
    """As ``bench.__main__.amount`` takes it: "/s", "s" or "B"."""
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def add(self, column: str, cells: Mapping[str, Cell]) -> None:
        """One more case."""
        for name, cell in cells.items():
            self.cells.setdefault(name, {})[column] = cell

    def column(self, column: str) -> dict[str, Cell]:
        """One case, by contender."""
        return {name: cells[column] for name, cells in self.cells.items() if column in cells}

    def columns(self) -> list[str]:
        """The cases, in the order in which they were added."""
        return list(dict.fromkeys(column for cells in self.cells.values() for column in cells))

    def best(self, column: str, name: str) -> float | None:
        """The best of a case among contenders as durable as ``name``: the most a second, or the fewest seconds or bytes."""
        group = name.partition("(")[2]
        figures = [
            cell
            for other, cell in self.column(column).items()
            if not isinstance(cell, str) and other.partition("(")[2] == group
        ]
        return (max if self.unit == "/s" else min)(figures, default=None)

    def markdown(self) -> str:
        """The table; the best of each durability in bold, and below it what wasn't measured."""
        columns = self.columns()
        lines = [f"### {self.title}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        notes: dict[str, None] = {}
        for name, cells in self.cells.items():
            shown = []
            for column in columns:
                cell = cells.get(column, "")
                if isinstance(cell, str):
                    if cell:
                        notes[f"{name}: {cell}."] = None
                    shown.append("—")
                else:
                    text = amount(cell, self.unit)
                    shown.append(f"**{text}**" if cell == self.best(column, name) else text)
            lines.append(f"| {name} | {' | '.join(shown)} |")
        return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def file_name(*words: str) -> str:
    """A name for a picture."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") + ".svg"


def matching(pattern: str, titles: Iterable[str]) -> set[str]:
    """The titles that are wanted."""
    return {title for title in titles if re.search(pattern, title, re.IGNORECASE)}
