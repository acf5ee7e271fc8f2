"""The doctor on the command line: a line for each finding, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from sqlite_sync import Diagnosis, Finding, diagnose
from sqlite_sync.cli.group import ERRORS_FOUND, database_argument, examples, json_option, print_json, terminal
from sqlite_sync.cli.side_by_side import ALERT, FAINT, GOOD, LABEL
from sqlite_sync.cli.values import fields, printable
from sqlite_sync.cli.views import View, count

STYLES = {"ok": GOOD, "note": "", "warning": ALERT, "error": "bold red"}


DOCTOR_HELP = """Say what each table is, how it can be synced, and what to mind.

Reads only: it works before `init`, and writes not a byte. Afterwards it also says whether everything is captured.

\b
Findings:
  ok       as it should be
  note     good to know
  warning  sync works, but you will meet this
  error    cannot be synced, or sync is broken here
"""


@click.command(help=DOCTOR_HELP, epilog=examples("sqlite-sync doctor notes.db", "sqlite-sync doctor notes.db --deep"))
@database_argument
@click.option("--deep", is_flag=True, help="Check the log, and every synced table against it.")
@click.option("--exit-code", is_flag=True, help="Exit with 4 if there is an error.")
@json_option
def doctor(*, database: Path, deep: bool, exit_code: bool, as_json: bool) -> None:
    """Say what the doctor finds."""
    found = diagnose(database, deep=deep)
    if as_json:
        print_json({**fields(found), "level": found.level})
    else:
        show(View(terminal(), database), found)
    if exit_code and found.level == "error":
        raise click.exceptions.Exit(ERRORS_FOUND)


def show(view: View, found: Diagnosis) -> None:
    """Show what the doctor found."""
    state = "prepared for syncing" if found.is_prepared else "not prepared for syncing; nothing was changed"
    view.line(Text.assemble((printable(str(found.path)), LABEL), f": {state}"))
    _findings(view, found.findings)
    for table in found.tables:
        view.line()
        view.line(Text.assemble((printable(table.name), LABEL), (f"  {table.kind}", FAINT)))
        _findings(view, table.findings)
    view.line()
    _summary(view, found)


def _findings(view: View, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        text = Text(printable(finding.message))
        if finding.remedy:
            text.append(f"\n→ {printable(finding.remedy)}", FAINT)
        grid.add_row(Text(f"  {finding.level}", STYLES[finding.level]), text)
    view.console.print(grid)


def _summary(view: View, found: Diagnosis) -> None:
    every = [*found.findings, *(finding for table in found.tables for finding in table.findings)]
    counts = Counter(finding.level for finding in every)
    told = ", ".join(count(counts[level], level) for level in ("error", "warning", "note") if counts[level])
    view.line(told or "nothing to mind", STYLES[found.level])
    possible = sum(table.can_be_synced and not table.is_enabled for table in found.tables)
    if not possible:
        return
    view.line(f"{count(possible, 'table')} not synced yet can be:")
    if not found.is_prepared:
        view.line(f"  {view.command('init')}")
    view.line(f"  {view.command('enable', '--all')}   (or name tables)")
