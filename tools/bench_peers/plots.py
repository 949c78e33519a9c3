"""The report's figures as pictures, where matplotlib is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.arrays import library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench_peers.report import Table


def _canvas() -> tuple[Any, Any]:
    library("matplotlib", "peers").rcParams["svg.hashsalt"] = "kvstore"  # the same figures make the same file
    figure = library("matplotlib.figure", "peers").Figure(figsize=(8, 5), layout="constrained")
    return figure, figure.subplots()


def bars(table: Table, column: str, path: Path) -> None:
    """One column of a table, a bar for each contender, on a logarithmic scale; ours stand out."""
    figures = {name: cell for name, cell in table.column(column).items() if not isinstance(cell, str)}
    figure, axes = _canvas()
    names = sorted(figures, key=lambda name: figures[name])
    colours = ["tab:orange" if name.startswith("kvstore") else "tab:gray" for name in names]
    axes.barh(names, [figures[name] for name in names], color=colours)
    axes.set(xscale="log", title=f"{table.title}: {column}", xlabel=table.unit)
    figure.savefig(path, metadata={"Date": None})


def lines(title: str, series: Mapping[str, Mapping[int, float]], path: Path, *, unit: str) -> None:
    """A line for each contender over the number of records, both axes logarithmic."""
    figure, axes = _canvas()
    for name, points in series.items():
        shown: Sequence[int] = sorted(points)
        axes.plot(shown, [points[at] for at in shown], marker="o", label=name)
    axes.set(xscale="log", yscale="log", title=title, xlabel="records", ylabel=unit)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
