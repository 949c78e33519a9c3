"""Where the command begins and ends, as the shell sees it.

0    done
1    refused or failed, a key that is not there among them
2    called wrongly
129  hung up
130  interrupted
141  the output's reader is gone
143  terminated
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_AGAIN_SECONDS: Final = 0.01


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command with these arguments, by default those of the process."""
    unraisable = sys.unraisablehook
    try:
        _occupy_standard_streams()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # nohup has a command ignore what would end it: so it does.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _leave)
        sys.unraisablehook = _insist
        # Late, so that an interrupt in the midst of the imports is as quiet as any other.
        from kvstore_cli.group import run  # noqa: PLC0415

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    finally:
        sys.unraisablehook = unraisable
        _settle_output()


def _leave(number: int, _: object) -> NoReturn:
    """Unwind, so that whatever is half done is cleared away."""
    sys.exit(128 + number)


def _insist(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise anew, a moment later, what a signal has raised where Python lets nothing out, as while an import ends."""
    error = unraisable.exc_value
    if not isinstance(error, (KeyboardInterrupt, SystemExit)):
        sys.__unraisablehook__(unraisable)
        return

    def again(*_: object) -> NoReturn:
        raise error

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _occupy_standard_streams() -> None:
    """A store that is opened as file 1 or 2 would have messages written into it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _settle_output() -> None:
    """What can't be written now, Python would try again at exit, and complain: let it go nowhere then."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
