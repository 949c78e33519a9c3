"""docs/reference.md"""

from __future__ import annotations

import re

import click

import write_reference
from kvstore import dump
from kvstore_cli.group import cli


def test_the_page_has_the_help_of_every_command():
    assert write_reference.PAGE.read_text(encoding="utf-8") == write_reference.page(), (
        "run python tools/write_reference.py"
    )


def test_every_command_and_option_says_what_it_does():
    for command in cli.commands.values():
        assert command.help
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help


def test_the_forms_that_the_page_shows_are_those_that_are_written():
    text = write_reference.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| `(.+?)`(?:, `(.+?)`)?(?: \(.*\))? \|$", text, re.MULTILINE)
    forms = [form for row in rows for form in row if form]
    assert len(forms) > 20
    for form in forms:
        value = dump.loads(form)
        assert form in (dump.dumps(value), form.startswith("[") and dump.dump_key(dump.load_key(form)))
