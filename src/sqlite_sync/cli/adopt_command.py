"""Two files that had rows before they met: which of them are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from sqlite_sync import Adoption
from sqlite_sync.cli.group import database_argument, examples, json_option, opened, print_json
from sqlite_sync.cli.values import printable
from sqlite_sync.cli.views import count


@click.command(
    epilog=examples(
        "sqlite-sync adopt shop.db customers=email orders=key", "sqlite-sync adopt shop.db customers=email --apply"
    )
)
@database_argument
@click.argument("tables", metavar="TABLE=key|distinct|COLUMN[,COLUMN...]...", nargs=-1, required=True)
@click.option(
    "--reference", "references", metavar="COLUMN=TABLE", multiple=True, help="A column refers to a mapped table."
)
@click.option("--apply", "is_applied", is_flag=True, help="Do it. Without this, it is only counted.")
@json_option
def adopt(
    *, database: Path, tables: tuple[str, ...], references: tuple[str, ...], is_applied: bool, as_json: bool
) -> None:
    """Put together two files that had rows before they met.

    Import the other file's bundle first, while the tables are not enabled here. Then say which rows are the same: those
    with equal numbers (key), those with equal values in some columns, or none (distinct). Each pair becomes one
    row; where they differ, that is a conflict to be resolved. All others stand on both devices. The tables are enabled.
    """
    same = dict(map(_split, tables))
    named = dict(pairs(references))
    with opened(database) as engine:
        found = engine.adopt(same, references=named, dry_run=not is_applied)
    if as_json:
        print_json({"applied": is_applied, "tables": {table: asdict(each) for table, each in found.items()}})
        return
    for table, adoption in found.items():
        click.echo(printable(f"{table}: {_told(adoption)}"))
    if not is_applied:
        click.echo("nothing was changed: add --apply to do it")


def pairs(references: Sequence[str]) -> list[tuple[str, str]]:
    """Split what --reference says."""
    if any("=" not in reference for reference in references):
        message = "--reference is COLUMN=TABLE, as in comments.todo_id=todos"
        raise click.UsageError(message)
    return [(column, table) for column, _, table in (reference.partition("=") for reference in references)]


def _split(words: str) -> tuple[str, str | tuple[str, ...]]:
    table, joint, how = words.rpartition("=")
    if not joint or not table or not how:
        message = f"{words!r} is not TABLE=key, TABLE=distinct or TABLE=COLUMN,COLUMN"
        raise click.UsageError(message)
    return table, how if how in ("key", "distinct") else tuple(how.split(","))


def _told(adoption: Adoption) -> str:
    both = f"{count(adoption.equal + adoption.differing, 'row')} in both"
    differing = f" ({count(adoption.differing, 'row')} with other values: conflicts)" if adoption.differing else ""
    ambiguous = f" ({count(adoption.ambiguous, 'row')} not told apart)" if adoption.ambiguous else ""
    return f"{both}{differing}, {adoption.only_here:,} only here{ambiguous}, {adoption.only_there:,} only there"
