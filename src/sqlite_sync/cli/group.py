"""What all commands share: how they fail, the arguments that many take, and how they print."""

from __future__ import annotations

import json
import shlex
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from sqlite_sync import SyncEngine, SyncError
from sqlite_sync.cli.values import printable
from sqlite_sync.cli.views import View

OPEN_CONFLICTS = 3  # the exit code
ERRORS_FOUND = 4  # the exit code of `doctor`
EXIT_CODE = "sqlite_sync.exit_code"  # where the context keeps that it is asked for
TIMEOUT_S = 5.0  # to wait for another program that writes

HELP = """Keep copies of a SQLite database in step, by files that you carry.

\b
Three lines to begin, on each device:
  sqlite-sync init notes.db
  sqlite-sync enable notes.db notes
  sqlite-sync sync notes.db ~/Dropbox/notes

The last line is the one to repeat: it takes in what the other devices left
in the folder, and leaves there what they lack. Without a shared folder,
carry bundles: `bundle` writes one, `import` takes it in. To watch it all
happen with two throw-away databases: sqlite-sync demo
"""

EPILOG = """\b
Exit codes:
  0  done
  1  it could not be done; one line on stderr says why
  2  the command was not understood, or the extra `cli` is not installed
  3  done, but conflicts are open (import, sync, conflicts: with --exit-code)
  4  the doctor found an error (doctor: with --exit-code)

\b
Results go to stdout, messages and errors to stderr. --json prints results
for machines: ids in hexadecimal, times in Unix milliseconds, a BLOB as
{"base64": "..."}. Otherwise a device is named by the last 8 digits of its
id, a conflict by the first 8; --full shows ids and values whole.
NO_COLOR=1 turns colours off.
"""


class Failure(click.ClickException):
    """What could not be done, told in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class Commands(click.Group):
    """A group whose commands fail with one line instead of a traceback, and that lists them in reading order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which one meets them."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command, and tell its errors in one line."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # `sqlite-sync log | head`: click ends quietly
        except (SyncError, sqlite3.Error, OSError) as error:
            raise Failure(reason(error)) from error


def reason(error: Exception) -> str:
    """Say in one line why something could not be done."""
    match error:
        case sqlite3.Error():
            return f"SQLite says: {error}"
        case OSError(strerror=str() as problem):
            return f"{error.filename}: {problem}" if error.filename else problem
        case _:
            return str(error)


def examples(*lines: str) -> str:
    """Render the examples of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


database_argument = click.argument("database", metavar="DB", type=click.Path(path_type=Path))
table_option = click.option("--table", metavar="TABLE", help="Only this table.")
full_option = click.option("--full", is_flag=True, help="Show ids and values whole.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
exit_code_option = click.option(
    "--exit-code",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, is_asked: context.meta.update({EXIT_CODE: is_asked}),
    help="Exit with 3 if conflicts are open afterwards.",
)


@contextmanager
def existing(database: Path) -> Iterator[SyncEngine]:
    """Open a database that exists: a misspelt name must not become an empty file."""
    if not database.exists():
        message = f"{database}: no such file"
        raise Failure(message)
    with SyncEngine(database, timeout=TIMEOUT_S) as engine:
        yield engine


@contextmanager
def opened(database: Path) -> Iterator[SyncEngine]:
    """Open a database that `init` has prepared; no other command may do that unasked."""
    with existing(database) as engine:
        if not is_prepared(database, engine):
            message = f"{database}: is not prepared for syncing yet; run: sqlite-sync init {shlex.quote(str(database))}"
            raise Failure(message)
        engine.initialize()
        yield engine


def is_prepared(database: Path, engine: SyncEngine) -> bool:
    """Tell whether the tables of SPEC.md, section 5, are in the file."""
    try:
        found = engine.connection.execute("SELECT 1 FROM main.sqlite_schema WHERE name = 'sync_state'").fetchone()
    except sqlite3.Error as error:
        is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        remedy = "; another program is writing to it: close that, or try again later" if is_busy else ""
        message = f"{database}: {error}{remedy}"
        raise Failure(message) from error
    return found is not None


def synced_name(engine: SyncEngine, table: str | None) -> str | None:
    """Spell a synced table's name as the database does."""
    spelt = {name.lower(): name for name in engine.synced_tables()}
    return spelt.get(table.lower(), table) if table else None


def require_synced(engine: SyncEngine, table: str | None) -> None:
    """Tell a table without results from a misspelt one."""
    if table and table not in engine.synced_tables():
        message = f"no such synced table: {table}; it has {', '.join(engine.synced_tables()) or 'none yet'}"
        raise Failure(message)


def terminal() -> Console:
    """Make the console that results go to; the user's values are no markup."""
    return Console(highlight=False, markup=False, emoji=False)


def view_of(database: Path, engine: SyncEngine, *, full: bool = False) -> View:
    """Make the view on a database's results."""
    return View(terminal(), database, engine.device_id, full)


def print_json(plain: object, *, indent: int | None = 2) -> None:
    """Print a result for machines."""
    sys.stdout.write(json.dumps(plain, indent=indent, allow_nan=False) + "\n")  # click.echo would flush each line


def say(message: str) -> None:
    """Print a message for people, which is no result."""
    click.echo(printable(message), err=True)


def exit_for(open_conflicts: int) -> None:
    """Leave with the code for open conflicts, if --exit-code asks for it."""
    if open_conflicts and click.get_current_context().meta.get(EXIT_CODE):
        raise click.exceptions.Exit(OPEN_CONFLICTS)
