"""Carry out one request of ``buku_app.py`` with buku's own Python API, without a network.

This is a program, not a module to import: it reads one JSON request from the standard input and
writes one JSON answer to the standard output.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import buku


def _forbid_network(event: str, _arguments: tuple[Any, ...]) -> None:
    """End the process at a connection: buku swallows every Exception of a fetch, but not this."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"buku tried to reach the network ({event})")


def _require(succeeded: bool, what: str) -> None:
    """Turn buku's False into a failure; it has logged the reason to the error stream."""
    if not succeeded:
        raise SystemExit(f"buku did not {what}")


def _find(database: buku.BukuDb, url: str) -> int:
    """Look the id up anew for each operation, since any deletion may have renumbered the rows."""
    bookmark_id: int | None = database.get_rec_id(url)
    if bookmark_id is None:
        raise SystemExit(f"no bookmark of {url}")
    return bookmark_id


def _tag_string(tags: list[str]) -> str:
    """Write tags as buku stores them; a leading comma means "replace", not "append"."""
    return "," + "".join(f"{tag}," for tag in tags)


def _describe(bookmark: buku.BookmarkVar) -> dict[str, Any]:
    return {
        "id": bookmark.id,
        "url": bookmark.url,
        "title": bookmark.title,
        "tags": bookmark.taglist,
        "description": bookmark.desc,
    }


def _update(database: buku.BukuDb, arguments: dict[str, Any]) -> None:
    """Change only what was passed; a new URL needs the title too, or buku would fetch the page."""
    bookmark_id = _find(database, arguments["url"])
    new_url = arguments.get("new_url")
    title = arguments.get("title")
    if new_url is not None and title is None:
        title = database.get_rec_by_id(bookmark_id).title or ""
    tags = arguments.get("tags")
    updated = database.update_rec(
        bookmark_id,
        url=new_url,
        title_in=title,
        tags_in=None if tags is None else _tag_string(tags),
        desc=arguments.get("description"),
    )
    _require(updated, "update the bookmark")


def _add(database: buku.BukuDb, arguments: dict[str, Any]) -> int:
    bookmark_id: int | None = database.add_rec(
        arguments["url"],
        title_in=arguments["title"],
        tags_in=_tag_string(arguments["tags"]),
        desc=arguments["description"],
        fetch=False,
    )
    if bookmark_id is None:
        raise SystemExit("buku did not add the bookmark")
    return bookmark_id


def _swap(database: buku.BukuDb, arguments: dict[str, Any]) -> None:
    first = _find(database, arguments["first_url"])
    second = _find(database, arguments["second_url"])
    _require(database.swap_recs(first, second), "swap the bookmarks")


def _delete(database: buku.BukuDb, arguments: dict[str, Any]) -> None:
    bookmark_id = _find(database, arguments["url"])
    deleted = database.delete_rec(bookmark_id, retain_order=arguments["retain_order"])
    _require(deleted, "delete the bookmark")


def _list(database: buku.BukuDb, _arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [_describe(bookmark) for bookmark in database.get_rec_all()]


def _search(database: buku.BukuDb, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    found = database.searchdb(arguments["words"], all_keywords=True)
    return [_describe(bookmark) for bookmark in found]


_OPERATIONS: dict[str, Callable[[buku.BukuDb, dict[str, Any]], Any]] = {
    "create": lambda _database, _arguments: None,  # opening the database has created it
    "add": _add,
    "update": _update,
    "swap": _swap,
    "delete": _delete,
    "list": _list,
    "search": _search,
}


def _main() -> None:
    request = json.load(sys.stdin)
    sys.addaudithook(_forbid_network)
    with contextlib.redirect_stdout(sys.stderr):  # buku prints such as "Index 2 deleted"
        database = buku.BukuDb(dbfile=request["path"])
        with contextlib.closing(database):
            answer = _OPERATIONS[request["operation"]](database, request["arguments"])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
