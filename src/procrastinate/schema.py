"""The tables: apply them, read them, check them."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

from procrastinate import connector, exceptions
from procrastinate.store import postgres

migrations_path = pathlib.Path(__file__).parent / "store" / "sql" / "migrations"

# Two programs that apply the schema at the same time take turns. The number is "procrast" in ASCII.
ADVISORY_LOCK = 0x70726F6372617374


# Not "if not exists", which needs the right to create schemas even where there is nothing to create.
CREATE_SCHEMA = """\
do $$
begin
  if not exists (select from pg_namespace where nspname = {literal}) then
    create schema {identifier};
  end if;
end
$$;

"""


class SchemaManager:
    """Applies and reads the schema."""

    def __init__(self, connector: connector.BaseConnector) -> None:
        """Work on the database of `connector`."""
        self.connector = connector

    @staticmethod
    def get_schema(schema: str | None = None) -> str:
        """Return the whole schema as SQL: all migrations in order, and the record that they were applied.

        Everything is created in the first schema of the search_path, or in `schema`, which is created if need be.
        Raises ValueError if that cannot be a schema's name.
        """
        scripts: list[str] = []
        for name, text in _migrations():
            # The name and the checksum are the package's own.
            record = f"insert into procrastinate_migrations (name, checksum) values ('{name}', '{_checksum(text)}');\n"  # noqa: S608
            scripts.append(f"{text}\n{record}")
        script = "\n".join(scripts)
        name = postgres.check_schema(schema)
        if name is None:
            return script
        literal = "'" + name.replace("'", "''") + "'"
        create = CREATE_SCHEMA.format(literal=f"{literal}::text", identifier=postgres.identifier(name))
        return create + postgres.qualified(script, name)

    @staticmethod
    def get_migrations_path() -> str:
        """Return the absolute path of the folder with the migrations."""
        return str(migrations_path)

    def apply_schema(self) -> None:
        """Create the tables, in one transaction, in the connector's schema or the first one of the search_path.

        Raises ConnectorException if some of them exist already.
        """
        sync_connector = self.connector.get_sync_connector()
        try:
            sync_connector.execute_query(_script(self.connector.schema))
        except exceptions.ConnectorException as error:
            raise _explain(error) from error.__cause__

    async def apply_schema_async(self) -> None:
        """Do as `apply_schema`, asynchronously."""
        try:
            await self.connector.execute_query_async(_script(self.connector.schema))
        except exceptions.ConnectorException as error:
            raise _explain(error) from error.__cause__

    async def is_applied_async(self) -> bool:
        """Return whether the database has the tables of exactly this version, False if it has no record of any.

        Raises ConnectorException, which tells the difference, if it has those of another version.
        """

        async def run(query: str) -> list[dict[str, Any]]:
            return await self.connector.execute_query_all_async(postgres.qualified(query, self.connector.schema))

        if (await run("select to_regclass('procrastinate_migrations')::text as found"))[0]["found"] is None:
            return False
        rows = await run("select name, checksum from procrastinate_migrations")
        applied = {row["name"]: row["checksum"] for row in rows}
        shipped = {name: _checksum(text) for name, text in _migrations()}
        if applied == shipped:
            return True
        differences = {
            "not applied yet": sorted(shipped.keys() - applied.keys()),
            "unknown to this version": sorted(applied.keys() - shipped.keys()),
            "applied with another text": sorted(
                name for name in shipped.keys() & applied.keys() if shipped[name] != applied[name]
            ),
        }
        details = "; ".join(f"{what}: {', '.join(names)}" for what, names in differences.items() if names)
        raise exceptions.ConnectorException(
            f"The schema was applied by another version, and nothing was changed. Migrations {details}. "
            f"Those of this version are in {migrations_path}."
        )


def _migrations() -> list[tuple[str, str]]:
    """Return the names and texts of the migrations, in their order."""
    return [(path.stem, path.read_text(encoding="utf-8")) for path in sorted(migrations_path.glob("*.sql"))]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _script(schema: str | None) -> str:
    # Sent without parameters, so the server runs all statements in one implicit transaction.
    return f"select pg_advisory_xact_lock({ADVISORY_LOCK});\n{SchemaManager.get_schema(schema)}"


def _explain(error: exceptions.ConnectorException) -> exceptions.ConnectorException:
    if "already exists" not in str(error):
        return error
    return exceptions.ConnectorException(
        f"{error}\nThe schema was applied before, by this or by another version; nothing was changed."
    )
