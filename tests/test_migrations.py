"""The application's own migrations: made on both devices between two meetings, with nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from applications import django_driver
from conftest import MakeEngine, exchange, rows, send
from sqlite_sync import SyncEngine
from sqlite_sync.cli.commands import commands

TASKS = "CREATE TABLE tasks (id TEXT PRIMARY KEY, title, old, kept)"
SEEN = "CREATE TABLE seen (x)"


@pytest.mark.parametrize(
    "dependent",
    [
        "CREATE TRIGGER d AFTER INSERT ON tasks BEGIN INSERT INTO seen VALUES (NEW.old); END",
        "CREATE TRIGGER d AFTER DELETE ON tasks BEGIN INSERT INTO seen VALUES (OLD.old); END",
        "CREATE TRIGGER d AFTER UPDATE ON tasks WHEN OLD.old IS NOT NEW.old BEGIN SELECT 1; END",
        "CREATE TRIGGER d AFTER INSERT ON tasks BEGIN INSERT INTO seen SELECT old FROM tasks; END",
        "CREATE VIEW d AS SELECT old FROM tasks",
    ],
)
def test_sqlite_refuses_to_drop_a_column_that_a_trigger_or_a_view_names(dependent: str) -> None:
    """Pinned: where a later SQLite lets one of these pass, capture can use it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{TASKS}; {SEEN}; {dependent}")
        with pytest.raises(
            sqlite3.OperationalError, match=r"error in (trigger|view) d after drop column: no such column"
        ):
            connection.execute("ALTER TABLE tasks DROP COLUMN old")


@pytest.fixture
def tasks(make: MakeEngine) -> tuple[SyncEngine, SyncEngine]:
    a, b = (make(name, TASKS, ("tasks",)) for name in "ab")
    a.connection.execute("INSERT INTO tasks VALUES ('1', 'one', 1, 1), ('2', 'two', 2, 2), ('3', 'three', 3, 3)")
    exchange(a, b)
    return a, b


def change(path: Path, *statements: str) -> None:
    """Run statements as another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


def test_columns_are_dropped_on_both_devices_and_nothing_is_lost(tasks: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = tasks
    change(a.path, "UPDATE tasks SET title = 'before', old = 'gone' WHERE id = '1'")
    for engine in tasks:
        with engine.migration():
            change(engine.path, "ALTER TABLE tasks DROP COLUMN old")
            change(engine.path, f"UPDATE tasks SET kept = 'inside {engine.path.stem}' WHERE id = '{engine.path.stem}'")
        assert engine.status().tables[0].is_capturing
    change(a.path, "UPDATE tasks SET title = 'after' WHERE id = '2'")
    change(b.path, "INSERT INTO tasks VALUES ('4', 'new', 4)", "DELETE FROM tasks WHERE id = '3'")
    exchange(a, b)

    assert rows(a, "tasks") == rows(b, "tasks")
    assert a.connection.execute("SELECT * FROM tasks ORDER BY id").fetchall() == [
        ("1", "before", 1),
        ("2", "after", 2),
        ("4", "new", 4),
    ]
    assert a.get_unresolved_conflicts() == []
    assert [engine.reconcile() for engine in tasks] == [0, 0]


def test_what_a_migration_writes_is_logged_at_its_end(tasks: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = tasks
    with a.migration():
        change(a.path, "UPDATE tasks SET title = upper(title)", "DELETE FROM tasks WHERE id = '3'")
    send(a, b)

    assert rows(a, "tasks") == rows(b, "tasks")
    assert [row[1][1] for row in rows(b, "tasks")] == ["ONE", "TWO"]


@pytest.mark.parametrize("is_open", [False, True])
def test_a_migration_that_fails_leaves_capture_on(tasks: tuple[SyncEngine, SyncEngine], *, is_open: bool) -> None:
    a, b = tasks
    with pytest.raises(sqlite3.OperationalError, match="no such column"), a.migration():  # noqa: PT012
        change(a.path, "UPDATE tasks SET title = 'kept' WHERE id = '1'")
        if is_open:
            a.connection.execute("BEGIN")
        a.connection.execute("ALTER TABLE tasks DROP COLUMN nowhere")
    if is_open:
        a.connection.execute("ROLLBACK")
    send(a, b)

    assert a.status().tables[0].is_capturing
    assert rows(a, "tasks") == rows(b, "tasks")
    assert rows(b, "tasks")[0][1] == ("str", "kept")


def test_a_process_that_dies_inside_a_migration_is_mended_by_the_next_verb(
    tasks: tuple[SyncEngine, SyncEngine],
) -> None:
    a, b = tasks
    script = (
        "import os, sys, sqlite_sync\n"
        "with sqlite_sync.SyncEngine(sys.argv[1]) as engine:\n"
        "    engine.initialize()\n"
        "    with engine.migration():\n"
        "        engine.connection.execute('ALTER TABLE tasks DROP COLUMN old')\n"
        "        engine.connection.execute(\"UPDATE tasks SET title = 'x'\")\n"
        "        os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(a.path)], check=False).returncode == 9
    assert not a.status().tables[0].is_capturing
    send(a, b)

    assert a.status().tables[0].is_capturing
    assert [row[1] for row in rows(b, "tasks")] == [("str", "x")] * 3


@pytest.mark.parametrize("code", [0, 4])
def test_the_command_line_runs_a_migration_and_gives_its_exit_code(
    tasks: tuple[SyncEngine, SyncEngine], code: int
) -> None:
    a, b = tasks
    script = f"import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('ALTER TABLE tasks DROP COLUMN old'); sys.exit({code})"
    with pytest.raises(SystemExit) as ended:
        commands(["migrate", str(a.path), sys.executable, "-c", script, str(a.path)], prog_name="sqlite-sync")
    assert ended.value.code == code
    change(a.path, "UPDATE tasks SET title = 'captured'")
    send(a, b)

    assert a.status().tables[0].is_capturing
    assert [row[1] for row in rows(b, "tasks")] == [("str", "captured")] * 3


def test_the_notes_of_a_migration_tool_stay_with_their_device(make: MakeEngine) -> None:
    """A device that got them from another one would take its own migrations for done."""
    notes = "CREATE TABLE alembic_version (version_num TEXT PRIMARY KEY)"
    engine = make("a", f"{TASKS}; {notes}", ())
    enrolled = engine.enable_sync_for_all_tables()
    assert list(enrolled.enabled) == ["tasks"]
    assert "Alembic notes here which migrations this file has been through" in enrolled.refused["alembic_version"]
    engine.enable_sync_for_table("alembic_version")
    assert engine.enable_sync_for_all_tables().refused == {}


def test_a_column_that_is_dropped_without_a_look_at_the_triggers_is_mended_by_the_next_verb(
    tasks: tuple[SyncEngine, SyncEngine],
) -> None:
    """Under `legacy_alter_table` SQLite leaves triggers that name a column which is gone."""
    a, b = tasks
    for engine in tasks:
        change(engine.path, "PRAGMA legacy_alter_table = ON", "ALTER TABLE tasks DROP COLUMN old")
        with pytest.raises(sqlite3.OperationalError, match=r"no such column: (NEW|OLD)\.old"):
            change(engine.path, "UPDATE tasks SET title = 'refused'")
    exchange(a, b)
    change(a.path, "UPDATE tasks SET title = 'captured' WHERE id = '1'")
    exchange(a, b)

    assert rows(a, "tasks") == rows(b, "tasks")
    assert [row[1][1] for row in rows(b, "tasks")] == ["captured", "two", "three"]
    assert [engine.status().tables[0].is_capturing for engine in tasks] == [True, True]


# --- frameworks ---------------------------------------------------------------------------------------------------

DJANGO = {
    "0002_add": (
        "0001_initial",
        "migrations.AddField('note', 'colour', models.CharField(max_length=9, default='none'))",
    ),
    "0003_alter": (
        "0002_add",
        "migrations.AlterField('note', 'title', models.CharField(max_length=300, db_index=True))",
    ),
    "0004_remove": ("0003_alter", "migrations.RemoveField('note', 'rating')"),
    "0005_rename": ("0004_remove", "migrations.RenameField('note', 'body', 'content')"),
}
DJANGO_FILE = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("notebook", "{}")]
    operations = [{}]
"""
SEED = """
home = Notebook.objects.create(name='Home')
for number, title in enumerate(['Roof', 'Garden', 'Car', 'Cellar']):
    Note.objects.create(notebook=home, title=title, body=f'about {title}', rating=number / 3)
"""

Migrate = Callable[[Path], None]


@pytest.fixture
def by_django(tmp_path: Path) -> tuple[Path, Migrate, str]:
    path = tmp_path / "original.db"
    django_driver.migrate(path)
    django_driver.run(path, SEED)
    files = {name: DJANGO_FILE.format(*parts) for name, parts in DJANGO.items()}
    project = django_driver.copy_with(tmp_path / "project", files)

    def migrate(device: Path) -> None:
        command, environment = django_driver.migration_command(device, project)
        _run_inside_migration(device, command, environment)

    return path, migrate, "content"


ALEMBIC_ENV = """
from alembic import context
from sqlalchemy import create_engine
with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ALEMBIC = [
    "op.add_column('note', sa.Column('colour', sa.String(9), nullable=False, server_default='none'))",
    "with op.batch_alter_table('note') as batch: batch.alter_column('title', type_=sa.String(300), nullable=False)",
    "op.drop_column('note', 'rating')",
    "op.alter_column('note', 'body', new_column_name='content')",
]
ALEMBIC_FILE = """
import sqlalchemy as sa
from alembic import op
revision = {0!r}
down_revision = {1!r}
def upgrade():
    {2}
"""


@pytest.fixture
def by_alembic(tmp_path: Path) -> tuple[Path, Migrate, str]:
    pytest.importorskip("alembic")
    path = tmp_path / "original.db"
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript("""
            CREATE TABLE note (id VARCHAR(32) PRIMARY KEY NOT NULL, title VARCHAR(200), body TEXT, rating FLOAT);
            INSERT INTO note VALUES (1, 'Roof', 'about Roof', 0.1), (2, 'Garden', 'about Garden', 0.2),
                (3, 'Car', 'about Car', 0.3), (4, 'Cellar', 'about Cellar', NULL);
        """)
    (tmp_path / "scripts" / "versions").mkdir(parents=True)
    (tmp_path / "scripts" / "env.py").write_text(ALEMBIC_ENV)
    for number, text in enumerate(ALEMBIC, 1):
        down = str(number - 1) if number > 1 else None
        (tmp_path / "scripts" / "versions" / f"{number}.py").write_text(ALEMBIC_FILE.format(str(number), down, text))

    def migrate(device: Path) -> None:
        settings = tmp_path / f"{device.stem}.ini"
        settings.write_text(
            f"[alembic]\nscript_location = {tmp_path / 'scripts'}\nsqlalchemy.url = sqlite:///{device}\n"
        )
        command = [sys.executable, "-m", "alembic", "-c", str(settings), "upgrade", "head"]
        _run_inside_migration(device, command, dict(os.environ))

    return path, migrate, "content"


def _run_inside_migration(device: Path, command: Sequence[str], environment: dict[str, str]) -> None:
    with opened(device) as engine, engine.migration():
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@contextmanager
def opened(path: Path) -> Iterator[SyncEngine]:
    with SyncEngine(path) as engine:
        engine.initialize()
        yield engine


@pytest.mark.parametrize("framework", ["by_django", "by_alembic"])
def test_a_frameworks_migrations_on_both_devices_lose_nothing(
    framework: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A column added, one altered, one removed, one renamed; edits before and after it, on both devices."""
    original, migrate, renamed = request.getfixturevalue(framework)
    laptop, phone = tmp_path / "laptop.db", tmp_path / "phone.db"
    for device in (laptop, phone):
        shutil.copyfile(original, device)
        with opened(device) as engine:
            for table in ("notebook", "note") if framework == "by_django" else ("note",):
                engine.enable_sync_for_table(table)
    change(laptop, "UPDATE note SET title = 'Roof, before' WHERE title = 'Roof'")
    change(phone, "UPDATE note SET body = 'garden, before' WHERE title = 'Garden'")
    for device in (laptop, phone):
        migrate(device)
    change(laptop, "UPDATE note SET colour = 'red' WHERE title = 'Car'")
    change(phone, "UPDATE note SET content = 'cellar, after' WHERE title = 'Cellar'")
    with opened(laptop) as one, opened(phone) as other:
        exchange(one, other)
        assert rows(one, "note") == rows(other, "note")
        shown = one.connection.execute(f"SELECT title, {renamed}, colour FROM note").fetchall()
        images = [one.images(conflict).remote or {} for conflict in one.get_unresolved_conflicts()]
        found = [*shown, *((image["title"], image[renamed], image["colour"]) for image in images)]
        for title, text, colour in (
            ("Roof, before", "about Roof", "none"),
            ("Garden", "garden, before", "none"),
            ("Car", "about Car", "red"),
            ("Cellar", "cellar, after", "none"),
        ):
            assert (title, text, colour) in found
        assert len(shown) == 4
        assert [table.problem for table in one.status().tables if table.problem] == []
        assert [engine.reconcile() for engine in (one, other)] == [0, 0]
        assert one.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
