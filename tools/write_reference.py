"""Writes the help of every command into docs/reference.md, below a line that says so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "reference.md"
MARK: Final = "<!-- What follows is written by tools/write_reference.py. -->\n"
_WIDTH: Final = 100


def help_of_all() -> str:
    """The help of the group and of each command, in Markdown."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    from kvstore_cli.group import cli  # noqa: PLC0415  # found only now, where the package isn't installed

    context = click.Context(cli, info_name="kvstore", terminal_width=_WIDTH, **cli.context_settings)
    sections = [_section(context)]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None  # noqa: S101  # it has just been listed
        sections.append(_section(click.Context(command, context, name, terminal_width=_WIDTH)))
    return "\n".join(sections)


def _section(context: click.Context) -> str:
    return f"### {context.command_path}\n\n```text\n{context.get_help()}\n```\n"


def page() -> str:
    """The page as it should be."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE} has no line {MARK.strip()}")
    return f"{written}{MARK}\n{help_of_all()}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
