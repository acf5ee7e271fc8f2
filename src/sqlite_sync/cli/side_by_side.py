"""The versions of a row in conflict, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.box import MINIMAL
from rich.table import Table
from rich.text import Text

from sqlite_sync import Images, Value
from sqlite_sync.cli.values import excerpts, printable, shown

LABEL = "bold"
FAINT = "dim"
GOOD = "green"
ALERT = "yellow"
TONES = (GOOD, ALERT)  # of the local and the remote value, where they are new
CELL_WIDTH = 160  # characters of a value, unless all is to be shown
NO_ROW = "(no row)"
PARKED = {  # why a row stands in no table, by the kind of its conflict
    "unique": "another row, written later, has its UNIQUE value",
    "foreign_key": "the row that it refers to is gone, or is parked itself",
    "check": "a CHECK constraint of this table refuses it",
    "not_null": "a NOT NULL constraint of this table refuses it",
    "schema": "a type of this table refuses it",
}
IN_TABLE, IN_NO_TABLE = "in the table now", "parked: in no table"

Image = Mapping[str, Value]


def side_by_side(images: Images, authors: Sequence[str], *, is_parked: bool, full: bool) -> Table:
    """Lay out base, local and remote; `authors` says who wrote the latter two, and when."""
    return _laid_out(_heads(authors, IN_NO_TABLE if is_parked else IN_TABLE), _rows(images, full=full))


def parked(images: Images, authors: Sequence[str], *, is_other_parked: bool, full: bool) -> Table:
    """Lay out a parked row, after the row in its way if there is one; that may be parked itself."""
    local, remote = authors
    heads = [Text.assemble(("column", LABEL), "\n\n\n")]
    if images.local is not None:
        where = IN_NO_TABLE if is_other_parked else IN_TABLE
        heads.append(Text.assemble(("in its way", f"{LABEL} {GOOD}"), f"\n{where}\n{local}"))
    heads.append(Text.assemble(("parked", f"{LABEL} {ALERT}"), f"\nin no table\n{remote}"))
    versions = (images.remote,) if images.local is None else (images.local, images.remote)
    return _laid_out(heads, _parked_rows(versions, full=full))


def _parked_rows(versions: Sequence[Image | None], *, full: bool) -> Iterator[list[Text]]:
    for name in versions[-1] or {}:
        texts = [_cell(version, name, is_first=False) for version in versions]
        yield [Text(printable(name)), *map(Text, texts if full else _cut(texts, versions, name))]


def _laid_out(heads: Sequence[Text], rows: Iterator[list[Text]]) -> Table:
    table = Table(box=MINIMAL, header_style="", show_edge=False, pad_edge=False, padding=(0, 1))
    for head in heads:
        table.add_column(head, overflow="fold")
    for cells in rows:
        table.add_row(*cells)
    return table


def _heads(authors: Sequence[str], where: str) -> list[Text]:
    local, remote = authors
    return [
        Text.assemble(("column", LABEL), "\n\n\n"),  # as many lines as the others, or rich moves it down
        Text.assemble(("base", LABEL), "\nbefore both\n\n"),
        Text.assemble(("local", f"{LABEL} {GOOD}"), f"\n{where}\n", local),
        Text.assemble(("remote", f"{LABEL} {ALERT}"), "\nthe other version\n", remote),
    ]


def _rows(images: Images, *, full: bool) -> Iterator[list[Text]]:
    versions = (images.base, images.local, images.remote)
    for place, name in enumerate(differing(images)):
        texts = [_cell(version, name, is_first=place == 0) for version in versions]
        if not full:
            texts = _cut(texts, versions, name)
        changed = [version is not None and _is_changed(images.base, version, name) for version in versions[1:]]
        styles = (FAINT, *(tone if is_new else FAINT for tone, is_new in zip(TONES, changed, strict=True)))
        cells = [Text(text, style) for text, style in zip(texts, styles, strict=True)]
        yield [Text.assemble(printable(name), (_who(images, changed), FAINT)), *cells]


def _who(images: Images, changed: Sequence[bool]) -> str:
    """Say under a column's name who changed it."""
    if any(image is None for image in (images.base, images.local, images.remote)):
        return ""
    return {(True, True): "\nboth changed", (True, False): "\nlocal changed", (False, True): "\nremote changed"}.get(
        (changed[0], changed[1]), ""
    )


def _cut(texts: Sequence[str], versions: Sequence[Image | None], name: str) -> list[str]:
    """Cut long values; where one version is no row, the other is compared with the base."""
    compared = [text for text, version in zip(texts, versions, strict=True) if version is not None][-2:]
    sizes = [_size(version, name) for version in versions]
    return [text + size for text, size in zip(excerpts(texts, compared, CELL_WIDTH), sizes, strict=True)]


def differing(images: Images) -> list[str]:
    """Name the columns in which the two versions differ, or all where that tells nothing."""
    live = [image for image in (images.local, images.remote) if image is not None]
    sides = live if len(live) > 1 else [*live, *([images.base] if images.base is not None else [])]
    names = list(dict.fromkeys(name for image in sides for name in image))
    unlike = [name for name in names if len(sides) > 1 and not _same(*(side.get(name) for side in sides))]
    return unlike or names


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _is_changed(base: Image | None, version: Image, name: str) -> bool:
    return base is None or not _same(version.get(name), base.get(name))


def _cell(version: Image | None, name: str, *, is_first: bool) -> str:
    if version is None:
        return NO_ROW if is_first else ""
    return shown(version[name], keep="\n") if name in version else "(no column)"


def _size(version: Image | None, name: str) -> str:
    """Say how long a BLOB is that may have been cut."""
    value = version.get(name) if version else None
    return f"\n({len(value):,} bytes)" if isinstance(value, bytes) and len(value) * 2 > CELL_WIDTH else ""
