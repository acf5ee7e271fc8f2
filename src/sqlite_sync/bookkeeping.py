"""Tables in which migration tools note what a file has been through: each file's own affair. Pure."""

from __future__ import annotations

from collections.abc import Collection

_TOOLS = {
    "__diesel_schema_migrations": "Diesel",
    "__efmigrationshistory": "Entity Framework",
    "__efmigrationslock": "Entity Framework",
    "_prisma_migrations": "Prisma",
    "_sqlx_migrations": "SQLx",
    "alembic_version": "Alembic",
    "ar_internal_metadata": "Rails",
    "databasechangelog": "Liquibase",
    "databasechangeloglock": "Liquibase",
    "django_migrations": "Django",
    "flyway_schema_history": "Flyway",
    "goose_db_version": "Goose",
    "knex_migrations": "Knex",
    "knex_migrations_lock": "Knex",
    "schema_migrations": "a migration tool",  # Rails, dbmate, golang-migrate
    "sequelizemeta": "Sequelize",
}
_BY_COLUMNS = {"migrations": (({"migration", "batch"}, "Laravel"), ({"timestamp", "name"}, "TypeORM"))}


def migration_tool(table: str, columns: Collection[str]) -> str | None:
    """Name the tool whose bookkeeping a table is; a name that may mean anything counts with the tool's columns only."""
    folded = {column.lower() for column in columns}
    tools = (tool for needed, tool in _BY_COLUMNS.get(table.lower(), ()) if needed <= folded)
    return _TOOLS.get(table.lower()) or next(tools, None)


def reason(tool: str) -> str:
    """Say why such a table is better left out."""
    return (
        f"{tool} notes here which migrations this file has been through, and every device has to go through them "
        "itself: one that gets these rows takes them for done"
    )
