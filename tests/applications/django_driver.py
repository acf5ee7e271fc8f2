"""Edit a notebook database through an ordinary Django project, the one in ``django_app``.

Every function starts one process which runs the project's own ``manage.py``, so that all rows are
written by Django's ORM, on a connection which Django opened with its default settings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MANAGE = Path(__file__).with_name("django_app") / "manage.py"
_TIMEOUT_SECONDS = 120
_IMPORTS = "from notebook.models import Note, Notebook, NoteTag, Tag\n"

TABLES = ("notebook", "tag", "note", "note_tag")
"""The tables of the notebook application, each one after those which it refers to."""


class DjangoError(RuntimeError):
    """The command of Django failed; the message is its error stream, with the traceback."""


def migrate(path: str | os.PathLike[str]) -> None:
    """Create the database, or bring it to the current schema, by Django's migrations."""
    _manage(path, "migrate", "--verbosity=0")


def run(path: str | os.PathLike[str], script: str) -> str:
    """Run Python code in Django's shell on the database and return what the code printed.

    The models Notebook, Tag, Note and NoteTag are imported already.
    """
    if not os.path.isfile(path):  # SQLite would silently create an empty database
        raise FileNotFoundError(os.fspath(path))
    return _manage(path, "shell", "--verbosity=0", "--command", _IMPORTS + script)


def _manage(path: str | os.PathLike[str], *arguments: str) -> str:
    """Run ``manage.py`` on the database at ``path`` and return its output."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "NOTEBOOK_DATABASE": os.path.abspath(path),
        "PYTHONIOENCODING": "utf-8",
    }
    finished = subprocess.run(
        [sys.executable, str(_MANAGE), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if finished.returncode != 0:
        raise DjangoError(f"manage.py {arguments[0]} failed:\n{finished.stderr.strip()}")
    return finished.stdout
