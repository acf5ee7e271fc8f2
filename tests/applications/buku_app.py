"""Edit a bookmark database through buku, the published command-line bookmark manager.

Every function starts one process which runs ``buku_child.py``: buku's own Python API on an explicit
database file.  The edits of a test are therefore made by an application which was written without
any thought of synchronization, on a connection which that application opened itself.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CHILD = Path(__file__).with_name("buku_child.py")
_TIMEOUT_SECONDS = 60


class BukuError(RuntimeError):
    """buku refused or failed the operation; the message is what it wrote to its error stream."""


def create(path: str | os.PathLike[str]) -> None:
    """Let buku create its database, or accept the one that is there already."""
    _call("create", path)


def add(
    path: str | os.PathLike[str],
    url: str,
    title: str = "",
    tags: Sequence[str] = (),
    description: str = "",
) -> int:
    """Add a bookmark and return the id that buku gave it (which buku may change later)."""
    bookmark_id: int = _call("add", _existing(path), url=url, title=title, tags=list(tags), description=description)
    return bookmark_id


def retitle(path: str | os.PathLike[str], url: str, title: str) -> None:
    """Replace the title of the bookmark of ``url``."""
    _call("update", _existing(path), url=url, title=title)


def retag(path: str | os.PathLike[str], url: str, tags: Sequence[str]) -> None:
    """Replace all tags of the bookmark of ``url``; buku lower-cases and sorts them."""
    _call("update", _existing(path), url=url, tags=list(tags))


def describe(path: str | os.PathLike[str], url: str, description: str) -> None:
    """Replace the description of the bookmark of ``url``."""
    _call("update", _existing(path), url=url, description=description)


def readdress(path: str | os.PathLike[str], url: str, new_url: str) -> None:
    """Give the bookmark of ``url`` another URL, which is an update of a unique column."""
    _call("update", _existing(path), url=url, new_url=new_url)


def swap(path: str | os.PathLike[str], first_url: str, second_url: str) -> None:
    """Exchange the ids of two bookmarks, which buku does by three updates of the primary key."""
    _call("swap", _existing(path), first_url=first_url, second_url=second_url)


def delete(path: str | os.PathLike[str], url: str, *, retain_order: bool = False) -> None:
    """Delete the bookmark of ``url``, upon which buku renumbers and runs VACUUM.

    By default buku moves the last bookmark into the freed id.  With ``retain_order`` (the option
    ``--retain-order`` of its command line) it lowers every higher id by one instead.
    """
    _call("delete", _existing(path), url=url, retain_order=retain_order)


def list_bookmarks(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return all bookmarks by id, each with keys id, url, title, tags and description."""
    bookmarks: list[dict[str, Any]] = _call("list", _existing(path))
    return bookmarks


def search(path: str | os.PathLike[str], words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the bookmarks in which buku finds every one of ``words``."""
    bookmarks: list[dict[str, Any]] = _call("search", _existing(path), words=list(words))
    return bookmarks


def _existing(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Refuse a missing file, in place of which buku would silently create an empty database."""
    if not os.path.isfile(path):
        raise FileNotFoundError(os.fspath(path))
    return path


def _call(operation: str, path: str | os.PathLike[str], **arguments: Any) -> Any:
    """Run one operation in a new process and return its answer.

    The request is all there is on the standard input, so that a prompt of buku fails at once
    instead of waiting for somebody; the home directories are temporary, so that neither the
    bookmarks nor the configuration of the person who runs the tests can be reached.  Only packages
    which that person installed into the home directory stay importable, since buku may be there.
    """
    request = {"operation": operation, "path": os.path.abspath(path), "arguments": arguments}
    with tempfile.TemporaryDirectory(prefix="buku-home-") as home:
        environment = os.environ | {
            "HOME": home,
            "USERPROFILE": home,
            "APPDATA": home,
            "XDG_CONFIG_HOME": home,
            "XDG_DATA_HOME": home,
            "BUKU_DEFAULT_DBDIR": home,
            "PYTHONUSERBASE": site.getuserbase(),
            "NO_COLOR": "1",
            "PYTHONIOENCODING": "utf-8",
        }
        finished = subprocess.run(
            [sys.executable, str(_CHILD)],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            env=environment,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    if finished.returncode != 0:
        raise BukuError(f"buku {operation} failed:\n{finished.stderr.strip()}")
    return json.loads(finished.stdout)
