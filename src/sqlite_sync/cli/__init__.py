"""The command line, above the public names of `sqlite_sync`.

This module imports without the extra `cli` (click and rich); `main` then says that it is missing.
"""

from __future__ import annotations

import importlib
import sys

USAGE_ERROR = 2
MISSING_EXTRA = "sqlite-sync needs its command-line extra: pip install 'sqlite-sync-core[cli]'"


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        commands = importlib.import_module("sqlite_sync.cli.commands")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich"}:
            raise
        sys.stderr.write(MISSING_EXTRA + "\n")
        sys.exit(USAGE_ERROR)
    commands.run()
