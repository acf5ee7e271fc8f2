"""Edit a notebook database through an ordinary Django project, the one in ``django_app``.

Every function starts one process which runs the project's own ``manage.py``, so that all rows are
written by Django's ORM, on a connection which Django opened with its default settings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_MANAGE = Path(__file__).with_name("django_app") / "manage.py"
SHOP = Path(__file__).with_name("django_shop") / "manage.py"
"""Another project, with the keys that Django gives by default."""

_TIMEOUT_SECONDS = 120
_IMPORTS = "from notebook.models import Note, Notebook, NoteTag, Tag\n"

TABLES = ("notebook", "tag", "note", "note_tag")
"""The tables of the notebook application, each one after those which it refers to."""


class DjangoError(RuntimeError):
    """The command of Django failed; the message is its error stream, with the traceback."""


def migrate(path: str | os.PathLike[str], project: Path = _MANAGE) -> None:
    """Create the database, or bring it to the current schema, by Django's migrations."""
    _manage(path, "migrate", "--verbosity=0", project=project)


def migration_command(path: str | os.PathLike[str], project: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command that migrates a database in a copy of the project, and its environment."""
    return [sys.executable, str(project / "manage.py"), "migrate", "--verbosity=0"], _environment(path)


def copy_with(project: Path, migrations: dict[str, str]) -> Path:
    """Copy the project and add migrations to it, by name."""
    shutil.copytree(_MANAGE.parent, project, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in migrations.items():
        (project / "notebook" / "migrations" / f"{name}.py").write_text(text, encoding="utf-8")
    return project


def run(path: str | os.PathLike[str], script: str, project: Path = _MANAGE) -> str:
    """Run Python code in Django's shell on the database and return what the code printed.

    The models are imported already.
    """
    if not os.path.isfile(path):  # SQLite would silently create an empty database
        raise FileNotFoundError(os.fspath(path))
    imports = "from shop.models import *\n" if project == SHOP else _IMPORTS
    return _manage(path, "shell", "--verbosity=0", "--command", imports + script, project=project)


def _environment(path: str | os.PathLike[str]) -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "NOTEBOOK_DATABASE": os.path.abspath(path),
        "PYTHONIOENCODING": "utf-8",
    }


def _manage(path: str | os.PathLike[str], *arguments: str, project: Path = _MANAGE) -> str:
    """Run ``manage.py`` on the database at ``path`` and return its output."""
    finished = subprocess.run(
        [sys.executable, str(project), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=_environment(path),
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if finished.returncode != 0:
        raise DjangoError(f"manage.py {arguments[0]} failed:\n{finished.stderr.strip()}")
    return finished.stdout
