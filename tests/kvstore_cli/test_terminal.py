"""What is shown, and what is not."""

from __future__ import annotations

import sys

import pytest

from kvstore_cli import terminal


def test_a_line_is_shown_without_what_a_terminal_obeys(capsysbinary):
    terminal.show("é\x1b[2J\u202e")
    assert capsysbinary.readouterr().out == "é\\u001b[2J\\u202e\n".encode()


def test_a_complaint_is_one_line_without_what_a_terminal_obeys(capsys):
    terminal.complain("one\ntwo\x9b")
    assert capsys.readouterr().err == "Error: one two\\u009b\n"


@pytest.mark.parametrize("hidden", [False, True])
def test_a_meter_shows_what_is_done_and_clears_its_line_where_that_failed(capsys, monkeypatch, hidden):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(terminal, "_INTERVAL", 0)

    def work():
        with terminal.Meter("moved", lambda done: done / 2000, hidden=hidden) as meter:
            meter(1000)
            meter(3000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    shown = "\r\x1b[Kmoved 1,000 records,  50%\r\x1b[Kmoved 3,000 records, 100%\r\x1b[K"
    assert capsys.readouterr().err == ("" if hidden else shown)


def test_a_meter_leaves_the_count_behind(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with terminal.Meter("moved", lambda _: None) as meter:
        meter(7)
    assert capsys.readouterr().err == "\r\x1b[Kmoved 7 records\n"
