"""The commands under one name, and what becomes of an error in any of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from kvstore.errors import KvstoreError
from kvstore_cli import backup, compact, delete, dump, get, load, ls, set, stats, terminal, verify

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tiered-kvstore", prog_name="kvstore", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Look into a kvstore file, and move its content in and out.

    STORE is the path of the file. Values are shown and given as JSON, with tags such as {"$bytes": "AAE="}
    where JSON has no word for a type. Put -- before a key that begins with a dash.

    The exit code is 0 if all went well, 2 if the command was called wrongly, and 1 for any other error, a key
    that is not there among them. An error is one line on stderr.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    backup.backup,
    compact.compact,
    delete.delete,
    dump.dump,
    get.get,
    load.load,
    ls.ls,
    set.set,
    stats.stats,
    verify.verify,
):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Exit code of the command with these arguments. An error is one line on stderr."""
    try:
        with cli.make_context("kvstore", list(arguments)) as context:
            cli.invoke(context)
        terminal.flush()
    except click.exceptions.Exit as request:
        terminal.flush()
        return request.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "kvstore"
        terminal.complain(f"{error.format_message()} ({path} --help says more)")
        return 2
    except click.ClickException as error:
        terminal.complain(error.format_message())
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        terminal.complain(f"{os.fspath(error.filename)}: {what}" if error.filename else what)
        return 1
    except KvstoreError as error:
        terminal.complain(str(error))
        return 1
    except Exception as error:  # a traceback would help nobody at a command line
        terminal.complain(f"unexpected {type(error).__name__}: {error}")
        return 1
    return 0
