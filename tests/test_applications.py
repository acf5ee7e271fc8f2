"""Two published applications, unchanged and in processes of their own, on devices that meet through files."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from applications import buku_app, django_driver
from conftest import exchange, send
from sqlite_sync import Conflict, FolderResult, SyncEngine

BOOKMARKS = ("bookmarks",)
SQLITE = "https://sqlite.org/"
PYTHON = "https://www.python.org/"
DEBIAN = "https://www.debian.org/"
RFC = "https://www.rfc-editor.org/"
UNICODE = "https://home.unicode.org/"
GUTENBERG = "https://www.gutenberg.org/"
NASA = "https://www.nasa.gov/"
EURLEX = "https://eur-lex.europa.eu/"

# Notes by title, for the scripts that run in Django's shell
SEED = """
import struct
home, work = Notebook.objects.create(name='Home'), Notebook.objects.create(name='Work')
urgent, someday = Tag.objects.create(name='urgent'), Tag.objects.create(name='someday')
for number, title in enumerate(['Roof', 'Garden', 'Car']):
    note = Note.objects.create(notebook=home, title=title, body='äöü \\U0001f331', rating=number / 3)
    note.tags.add(urgent, someday)
for title in ['Budget', 'Hiring']:
    note = Note.objects.create(notebook=work, title=title, attachment=bytes(range(256)), rating=struct.unpack('<d', b'\\x01' + b'\\0' * 7)[0])
    note.tags.add(urgent)
"""
TITLES = "print('|'.join(Note.objects.order_by('title').values_list('title', flat=True)), end='')"
TAGGED = "print('|'.join(sorted(f'{t.note.title}:{t.tag.name}' for t in NoteTag.objects.select_related('note', 'tag'))), end='')"

# What an application's upgrade does: Django remakes the table for the first column (new table, copy, drop, rename), and adds the second.
MIGRATION = """
from django.db import connection, models
colour = models.CharField(max_length=20, db_default='none')
shelf = models.CharField(max_length=20, null=True)
with connection.schema_editor() as editor:
    for name, field in {'colour': colour, 'shelf': shelf}.items():
        field.set_attributes_from_name(name)
        editor.add_field(Note, field)
"""
PAINT = """
from django.db import connection
connection.cursor().execute("UPDATE note SET colour = 'red', shelf = 'top' WHERE title = 'Hiring'")
"""
NEW_NOTE = "Note.objects.create(notebook=Notebook.objects.get(name='Home'), title='Cellar')"
COLUMNS = ("title", "body", "colour", "shelf")


def content(path: Path, tables: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
    """Read tables as any other program does: every value with its type, text as its bytes, doubles to the last bit."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        return {table: sorted(_typed(connection, table), key=repr) for table in tables}


def _typed(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    for row in connection.execute(f"SELECT * FROM {table}"):
        yield tuple((type(value).__name__, value.hex() if isinstance(value, float) else value) for value in row)


def is_sound(path: Path) -> bool:
    """Ask SQLite itself whether the file and its foreign keys are in order."""
    with closing(sqlite3.connect(path)) as connection:
        checks = connection.execute("PRAGMA integrity_check").fetchall()
        return checks == [("ok",)] and not connection.execute("PRAGMA foreign_key_check").fetchall()


def copies(original: Path, tables: Sequence[str], *names: str) -> list[Path]:
    """Copy a file to several devices, and enable sync on each."""
    paths = [original.with_name(f"{name}.db") for name in names]
    for path in paths:
        shutil.copyfile(original, path)
        with SyncEngine(path) as engine:
            engine.initialize()
            for table in tables:
                engine.enable_sync_for_table(table, keys="natural")
    return paths


@contextmanager
def opened(*paths: Path) -> Iterator[list[SyncEngine]]:
    """Open devices for a moment, between two runs of the application."""
    engines = [SyncEngine(path) for path in paths]
    try:
        for engine in engines:
            engine.initialize()
        yield engines
    finally:
        for engine in engines:
            engine.close()


def meet(*paths: Path) -> list[Conflict]:
    """Exchange bundles until everybody holds everything; return the open conflicts, which are the same everywhere."""
    with opened(*paths) as engines:
        exchange(*engines)
        first, *others = [engine.get_unresolved_conflicts() for engine in engines]
        assert all(other == first for other in others)
        return first


def visit(folder: Path, *paths: Path) -> list[FolderResult]:
    """Take the folder to each device, one after the other."""
    with opened(*paths) as engines:
        return [engine.sync_folder(folder) for engine in engines]


def titles(path: Path) -> dict[str, str]:
    return {bookmark["url"]: bookmark["title"] for bookmark in buku_app.list_bookmarks(path)}


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files of the applications' own making, which have never heard of sync."""
    folder = tmp_path_factory.mktemp("originals")
    bookmarks, notebook = folder / "bookmarks.db", folder / "notebook.db"
    buku_app.create(bookmarks)
    for url, title, tags in (
        (SQLITE, "SQLite", ["database", "c"]),
        (PYTHON, "Python", ["language"]),
        (DEBIAN, "Debian", ["linux"]),
        (RFC, "RFC Editor", ["standards"]),
        (UNICODE, "Unicode — 文字", ["standards", "text"]),
        (GUTENBERG, "Project Gutenberg", ["books"]),
    ):
        buku_app.add(bookmarks, url, title, tags)
    django_driver.migrate(notebook)
    django_driver.run(notebook, SEED)
    return folder


@pytest.fixture
def library(originals: Path, tmp_path: Path) -> Path:
    """A bookmark file that buku made."""
    return Path(shutil.copy(originals / "bookmarks.db", tmp_path))


@pytest.fixture
def notebook(originals: Path, tmp_path: Path) -> Path:
    """The database of a Django project, made by its migrations and filled through its models."""
    return Path(shutil.copy(originals / "notebook.db", tmp_path))


def test_bookmarks_edited_offline_on_two_devices_meet_with_nothing_lost(library: Path) -> None:
    laptop, phone = copies(library, BOOKMARKS, "laptop", "phone")

    buku_app.add(laptop, NASA, "NASA", ["space"])
    buku_app.add(laptop, EURLEX, "EUR-Lex", ["law"], "Law of the Union")
    buku_app.swap(laptop, PYTHON, DEBIAN)  # three updates of the primary key
    buku_app.retitle(laptop, SQLITE, "SQLite, on the laptop")
    buku_app.retag(phone, SQLITE, ["database", "phone"])
    buku_app.describe(phone, UNICODE, "Every character")
    buku_app.readdress(phone, RFC, RFC + "search")  # an update of a UNIQUE column
    buku_app.delete(phone, GUTENBERG)

    (conflict,) = meet(laptop, phone)

    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS)
    assert (conflict.table_name, conflict.kind) == ("bookmarks", "update/update")
    with opened(laptop, phone) as (one, other):
        images = one.images(conflict)
        assert other.images(conflict) == images
        assert images.base is not None
        assert images.local is not None
        assert images.remote is not None
        assert images.base["metadata"] == "SQLite"
        assert {images.local["metadata"], images.remote["metadata"]} == {"SQLite", "SQLite, on the laptop"}
        assert {images.local["tags"], images.remote["tags"]} == {",c,database,", ",database,phone,"}
        other.resolve(conflict, {"metadata": "SQLite, on the laptop", "tags": ",database,phone,"})
        result = send(other, one)
        assert result is not None
        assert result.applied_count == 1
        assert one.get_unresolved_conflicts() == other.get_unresolved_conflicts() == []

    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS)
    for device in (laptop, phone):
        assert is_sound(device)
        assert titles(device) == {
            SQLITE: "SQLite, on the laptop",
            PYTHON: "Python",
            DEBIAN: "Debian",
            RFC + "search": "RFC Editor",
            UNICODE: "Unicode — 文字",
            NASA: "NASA",
            EURLEX: "EUR-Lex",
        }
        assert [found["url"] for found in buku_app.search(device, ["phone"])] == [SQLITE]
        assert [found["url"] for found in buku_app.search(device, ["union"])] == [EURLEX]
    buku_app.add(phone, "https://example.org/", "The application goes on")
    assert meet(laptop, phone) == []
    assert titles(laptop)["https://example.org/"] == "The application goes on"


def test_renumbering_by_the_bookmark_manager_reaches_the_other_device(library: Path) -> None:
    laptop, phone = copies(library, BOOKMARKS, "laptop", "phone")

    buku_app.delete(laptop, RFC)  # the last bookmark moves into the free id, and buku runs VACUUM
    buku_app.delete(laptop, DEBIAN, retain_order=True)  # every higher id is lowered by one
    buku_app.describe(phone, SQLITE, "Small, fast, reliable")

    assert meet(laptop, phone) == []
    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS)
    assert list(titles(phone)) == [SQLITE, PYTHON, GUTENBERG, UNICODE]
    assert [bookmark["id"] for bookmark in buku_app.list_bookmarks(phone)] == [1, 2, 3, 4]
    assert is_sound(laptop)
    assert is_sound(phone)


def test_an_edit_of_a_renumbered_bookmark_loses_nothing(library: Path) -> None:
    laptop, phone = copies(library, BOOKMARKS, "laptop", "phone")
    buku_app.delete(laptop, PYTHON, retain_order=True)  # Debian is number 2 now
    buku_app.describe(phone, DEBIAN, "The universal operating system")  # and number 3 here: one URL, twice

    conflicts = meet(laptop, phone)

    assert {conflict.kind for conflict in conflicts} == {"update/update", "unique"}
    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS)
    assert is_sound(laptop)
    assert is_sound(phone)
    buku_app.delete(laptop, DEBIAN)  # whichever number has it: the other one comes back
    meet(laptop, phone)
    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS)
    assert DEBIAN in titles(laptop)


def test_bookmarks_added_on_both_devices_get_one_number_and_both_are_kept(library: Path) -> None:
    laptop, phone = copies(library, BOOKMARKS, "laptop", "phone")
    assert buku_app.add(laptop, NASA, "NASA") == buku_app.add(phone, EURLEX, "EUR-Lex")

    (conflict,) = meet(laptop, phone)

    assert conflict.kind == "insert/insert"
    with opened(laptop, phone) as (one, other):
        images = one.images(conflict)
        assert images.local is not None
        assert images.remote is not None
        assert {images.local["URL"], images.remote["URL"]} == {NASA, EURLEX}
        one.resolve(conflict, "local")
        exchange(one, other)
    kept_back, title = str(images.remote["URL"]), str(images.remote["metadata"])
    assert kept_back not in titles(laptop)
    buku_app.add(laptop, kept_back, title)  # the other one gets a number of its own
    assert meet(laptop, phone) == []
    assert titles(phone) == titles(laptop)
    assert {NASA, EURLEX} <= titles(phone).keys()
    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS)


def test_three_copies_of_the_bookmarks_meet_over_a_folder(library: Path, tmp_path: Path) -> None:
    devices = laptop, phone, tablet = copies(library, BOOKMARKS, "laptop", "phone", "tablet")
    stick = tmp_path / "stick"
    stick.mkdir()
    buku_app.add(laptop, NASA, "NASA")
    buku_app.retitle(phone, DEBIAN, "Debian, on the phone")
    buku_app.retitle(tablet, DEBIAN, "Debian, on the tablet")
    buku_app.delete(tablet, GUTENBERG)

    visit(stick, laptop, phone, tablet, laptop, phone)

    assert content(laptop, BOOKMARKS) == content(phone, BOOKMARKS) == content(tablet, BOOKMARKS)
    with opened(*devices) as engines:
        (conflict,) = engines[0].get_unresolved_conflicts()
        assert all(engine.get_unresolved_conflicts() == [conflict] for engine in engines)
        engines[0].resolve(conflict, {"metadata": "Debian"})

    visit(stick, laptop, phone, tablet)

    with opened(*devices) as engines:
        assert not any(engine.get_unresolved_conflicts() for engine in engines)
    for device in devices:
        assert content(device, BOOKMARKS) == content(laptop, BOOKMARKS)
        assert is_sound(device)
        assert titles(device)[DEBIAN] == "Debian"
        assert titles(device)[NASA] == "NASA"
        assert GUTENBERG not in titles(device)


def test_notes_edited_offline_on_two_devices_meet_with_nothing_lost(notebook: Path) -> None:
    laptop, phone = copies(notebook, django_driver.TABLES, "laptop", "phone")

    django_driver.run(
        laptop,
        """
note = Note.objects.create(notebook=Notebook.objects.get(name='Home'), title='Attic', rating=0.1 + 0.2, attachment=b'\\0\\xff')
note.tags.add(Tag.objects.create(name='dusty'), Tag.objects.get(name='someday'))
Notebook.objects.get(name='Work').delete()
Note.objects.filter(title='Garden').update(done=True)
car = Note.objects.get(title='Car'); car.body = 'Tyres'; car.save()
""",
    )
    django_driver.run(
        phone,
        """
note = Note.objects.create(notebook=Notebook.objects.create(name='Travel'), title='Lisbon', rating=-1e308)
note.tags.add(Tag.objects.create(name='sunny'))
Tag.objects.get(name='urgent').delete()
Note.objects.filter(title='Roof').update(body='Two tiles')
car = Note.objects.get(title='Car'); car.done = True; car.save()
""",
    )

    (conflict,) = meet(laptop, phone)

    assert content(laptop, django_driver.TABLES) == content(phone, django_driver.TABLES)
    assert (conflict.table_name, conflict.kind) == ("note", "update/update")
    with opened(laptop, phone) as (one, other):
        images = one.images(conflict)
        assert images == other.images(conflict)
        assert images.local is not None
        assert images.remote is not None
        assert {images.local["body"], images.remote["body"]} == {"äöü \U0001f331", "Tyres"}
        assert {images.local["done"], images.remote["done"]} == {0, 1}
        other.resolve(conflict, {"body": "Tyres", "done": 1})
        exchange(one, other)
        assert one.get_unresolved_conflicts() == other.get_unresolved_conflicts() == []

    assert content(laptop, django_driver.TABLES) == content(phone, django_driver.TABLES)
    for device in (laptop, phone):
        assert is_sound(device)
        assert django_driver.run(device, TITLES) == "Attic|Car|Garden|Lisbon|Roof"
        assert django_driver.run(device, TAGGED) == (
            "Attic:dusty|Attic:someday|Car:someday|Garden:someday|Lisbon:sunny|Roof:someday"
        )
        assert django_driver.run(device, "print(Note.objects.get(title='Attic').rating)") == "0.30000000000000004\n"
        assert django_driver.run(device, "print(Note.objects.filter(done=True, body='Tyres').count())") == "1\n"


def test_notes_on_three_devices_meet_over_a_folder(notebook: Path, tmp_path: Path) -> None:
    devices = copies(notebook, django_driver.TABLES, "laptop", "phone", "tablet")
    stick = tmp_path / "stick"
    stick.mkdir()
    for device in devices:
        django_driver.run(
            device,
            f"""
note = Note.objects.create(notebook=Notebook.objects.get(name='Home'), title='Made on the {device.stem}')
note.tags.add(Tag.objects.create(name='{device.stem}'), Tag.objects.get(name='someday'))
""",
        )
    django_driver.run(devices[2], "Notebook.objects.get(name='Work').delete()")

    visit(stick, *devices, *devices)

    first = content(devices[0], django_driver.TABLES)
    for device in devices:
        assert content(device, django_driver.TABLES) == first
        assert is_sound(device)
        assert (
            django_driver.run(device, TITLES)
            == "Car|Garden|Made on the laptop|Made on the phone|Made on the tablet|Roof"
        )
    assert [result.written for result in visit(stick, *devices)] == [None, None, None]


def test_a_migration_on_both_devices_between_two_meetings_loses_nothing(notebook: Path) -> None:
    laptop, phone = copies(notebook, django_driver.TABLES, "laptop", "phone")
    django_driver.run(laptop, "Note.objects.filter(title='Roof').update(body='Written before it')")
    for device in (laptop, phone):
        django_driver.run(device, MIGRATION)
    django_driver.run(
        laptop, "Note.objects.filter(title='Car').update(body='Written after it')"
    )  # with no trigger there
    django_driver.run(phone, NEW_NOTE + PAINT)

    conflicts = meet(laptop, phone)

    assert content(laptop, django_driver.TABLES) == content(phone, django_driver.TABLES)
    with opened(laptop) as (engine,):
        shown = [
            dict(zip(COLUMNS, row, strict=True))
            for row in engine.connection.execute(f"SELECT {', '.join(COLUMNS)} FROM note")
        ]
        images = [engine.images(conflict) for conflict in conflicts]
        found = [*shown, *(image.remote for image in images if image.remote)]
    for wanted in (
        {"title": "Roof", "body": "Written before it"},
        {"title": "Car", "body": "Written after it"},
        {"title": "Cellar", "colour": "none", "shelf": None},
        {"title": "Hiring", "colour": "red", "shelf": "top"},
    ):
        assert any(wanted.items() <= image.items() for image in found), wanted
    for device in (laptop, phone):
        assert is_sound(device)
        assert django_driver.run(device, TITLES) == "Budget|Car|Cellar|Garden|Hiring|Roof"


def test_a_migration_alone_is_no_edit_and_so_no_conflict(notebook: Path) -> None:
    laptop, phone = copies(notebook, django_driver.TABLES, "laptop", "phone")
    for device in (laptop, phone):
        django_driver.run(device, MIGRATION)
    django_driver.run(laptop, "Note.objects.filter(title='Car').update(body='An edit on one device only')")
    django_driver.run(phone, "Note.objects.filter(title='Garden').delete()")

    assert meet(laptop, phone) == []

    assert content(laptop, django_driver.TABLES) == content(phone, django_driver.TABLES)
    assert django_driver.run(phone, TITLES) == "Budget|Car|Hiring|Roof"


def test_a_migration_that_comes_later_on_one_device_keeps_what_the_other_wrote_meanwhile(notebook: Path) -> None:
    laptop, phone = copies(notebook, django_driver.TABLES, "laptop", "phone")
    django_driver.run(laptop, MIGRATION)
    django_driver.run(laptop, PAINT)
    meet(laptop, phone)  # the phone does not have these columns yet
    django_driver.run(phone, MIGRATION)

    assert meet(laptop, phone) == []

    for device in (laptop, phone):
        with closing(sqlite3.connect(device)) as connection:
            query = "SELECT title, colour, shelf FROM note WHERE colour <> 'none'"
            assert connection.execute(query).fetchall() == [("Hiring", "red", "top")]
    assert content(laptop, django_driver.TABLES) == content(phone, django_driver.TABLES)


# --- Django with the keys that it gives by default --------------------------------------------------------------------

SHOP_SEED = """
ada = Author.objects.create(name="Ada")
bob = Author.objects.create(name="Bob", teacher=ada)
old = Tag.objects.create(name="old")
first = Book.objects.create(title="First", author=ada)
first.tags.add(old)
first.remarks.create(text="on First")
"""
SHOP_STORY = """
for b in Book.objects.order_by("title"):
    print(b.title, b.author, b.author.teacher, sorted(map(str, b.tags.all())), sorted(map(str, b.remarks.all())))
for r in Remark.objects.order_by("text"):
    print(r.text, "is about", r.about)
for t in Tag.objects.order_by("name"):
    print(t.name, sorted(map(str, t.books.all())))
"""


def test_a_django_project_with_automatic_keys_meets_again_with_every_relation_right(tmp_path: Path) -> None:
    """Both insert number 2, 3, ... into each table, many-to-many tables too, and refer to one another's rows."""
    laptop, phone = tmp_path / "laptop.db", tmp_path / "phone.db"
    shop = django_driver.SHOP
    django_driver.migrate(laptop, shop)
    django_driver.run(laptop, SHOP_SEED, shop)
    shutil.copyfile(laptop, phone)
    for path in (laptop, phone):
        with SyncEngine(path) as engine:
            engine.initialize()
            found = engine.enable_sync_for_all_tables(references={"shop_remark.object_id": "shop_book"})
            assert set(found.refused) == {"django_migrations"}

    def adds(name: str) -> str:
        return f"""
cleo = Author.objects.create(name="{name}'s author", teacher=Author.objects.get(name="Bob"))
new = Tag.objects.create(name="{name}'s tag")
for title in ("one", "two"):
    book = Book.objects.create(title=f"{name}'s {{title}}", author=cleo)
    book.tags.add(new, Tag.objects.get(name="old"))
    book.remarks.create(text=f"on {name}'s {{title}}")
Book.objects.get(title="First").tags.add(new)
"""

    django_driver.run(laptop, adds("laptop"), shop)
    django_driver.run(phone, adds("phone") + "Author.objects.filter(name='Bob').update(name='Robert')", shop)
    assert meet(laptop, phone) == []
    story = django_driver.run(laptop, SHOP_STORY, shop)
    assert django_driver.run(phone, SHOP_STORY, shop) == story
    assert "phone's two phone's author Robert ['old', \"phone's tag\"] [\"on phone's two\"]" in story
    assert "laptop's one laptop's author Robert [\"laptop's tag\", 'old'] [\"on laptop's one\"]" in story
    assert "First Ada None [\"laptop's tag\", 'old', \"phone's tag\"] ['on First']" in story
    assert "on phone's one is about phone's one" in story

    django_driver.run(laptop, 'Author.objects.get(name="phone\'s author").delete()', shop)  # and its books, and theirs
    django_driver.run(phone, "Book.objects.get(title=\"laptop's one\").remarks.create(text='from the phone')", shop)
    assert meet(laptop, phone) == []
    story = django_driver.run(laptop, SHOP_STORY, shop)
    assert django_driver.run(phone, SHOP_STORY, shop) == story
    assert "phone's one" not in story
    assert "from the phone is about laptop's one" in story
    assert is_sound(laptop)
    assert is_sound(phone)


def test_bookmarks_added_on_both_devices_stand_on_both(library: Path) -> None:
    """The bookmark manager's table as it is enabled if nothing is said: each device has its own numbers."""
    laptop, phone = (Path(shutil.copy(library, library.with_name(f"{name}.db"))) for name in ("laptop", "phone"))
    for path in (laptop, phone):
        with SyncEngine(path) as engine:
            engine.initialize()
            engine.enable_sync_for_table(*BOOKMARKS)
    assert buku_app.add(laptop, NASA, "NASA") == buku_app.add(phone, EURLEX, "EUR-Lex")
    buku_app.delete(laptop, PYTHON, retain_order=True)  # every higher id is lowered by one
    buku_app.describe(phone, DEBIAN, "The universal operating system")
    meet(laptop, phone)
    assert titles(laptop).keys() == titles(phone).keys()
    assert {NASA, EURLEX, DEBIAN} <= titles(laptop).keys()
    assert is_sound(laptop)
    assert is_sound(phone)
