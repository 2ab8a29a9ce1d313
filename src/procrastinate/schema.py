"""The tables: apply them, bring them up to date, read and check them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from procrastinate import connector, exceptions, takeover, upgrade
from procrastinate.store import migrations, postgres
from procrastinate.store.operation import run_flow, run_flow_async
from procrastinate.takeover import ADVISORY_LOCK
from procrastinate.upgrade import UpgradeOptions

__all__ = ["ADVISORY_LOCK", "SchemaManager", "UpgradeOptions", "migrations_path"]

T = TypeVar("T")

migrations_path = migrations.FOLDER

PLAIN = UpgradeOptions()

# SQLSTATEs for a type, table, function or schema that exists: messages come in the server's language.
_EXISTS = frozenset({"42710", "42P07", "42723", "42P06"})


def _tell_nobody(message: str) -> None:
    """Be quiet."""


class SchemaManager:
    """Applies, upgrades, checks and reads the schema."""

    def __init__(self, connector: connector.BaseConnector) -> None:
        """Work on the database of `connector`."""
        self.connector = connector

    @staticmethod
    def get_schema(schema: str | None = None) -> str:
        """Return the whole schema as SQL: all migrations in order, and the record that they were applied.

        Everything is created in the first schema of the search_path, or in `schema`, which is created if need be.
        Raises ValueError if that cannot be a schema's name.
        """
        return upgrade.whole_schema(schema)

    @staticmethod
    def get_migration(name: str, schema: str | None = None) -> str:
        """Return one migration as SQL, with the record that it was applied.

        For programs that keep track of migrations themselves. `name` is that of its file, with or without `.sql`.
        Raises ValueError if there is no migration of that name, or no schema of that one.
        """
        for migration in migrations.shipped():
            if migration.name == name.removesuffix(".sql"):
                return postgres.qualified(f"{migration.text}\n{migration.record}", postgres.check_schema(schema))
        raise ValueError(f"There is no migration {name!r}; they are in {migrations.FOLDER}")

    @staticmethod
    def get_takeover(schema: str | None = None, options: UpgradeOptions = PLAIN) -> str:
        """Return SQL that takes the tables of the other implementation over, in one transaction of the caller's.

        For programs that run migrations in transactions of their own, such as Alembic. Nobody can use the tables until
        the transaction ends, half a minute or more for each million jobs: `upgrade` holds no lock for that long.
        """
        return takeover.whole_script(
            postgres.check_schema(schema), force=options.force, keep_events=options.keep_events
        )

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
            sync_connector.execute_query(self._script())
        except exceptions.ConnectorException as error:
            raise _explain(error) from error.__cause__

    async def apply_schema_async(self) -> None:
        """Do as `apply_schema`, asynchronously."""
        try:
            await self.connector.execute_query_async(self._script())
        except exceptions.ConnectorException as error:
            raise _explain(error) from error.__cause__

    def _script(self) -> str:
        # Sent without parameters, so the server runs all statements in one implicit transaction.
        return upgrade.in_turn(self.get_schema(self.connector.schema))

    def is_applied(self) -> bool:
        """Return whether the database has the tables of exactly this version, False if it has no record of any.

        Raises ConnectorException, which tells the difference, if it has those of another version.
        """
        return self._run(upgrade.is_applied())

    async def is_applied_async(self) -> bool:
        """Do as `is_applied`, asynchronously."""
        return await self._run_async(upgrade.is_applied())

    def upgrade(self, options: UpgradeOptions = PLAIN, tell: Callable[[str], None] = _tell_nobody) -> bool:
        """Bring the tables to this version, whatever they are: none, an older version's, or the other implementation's.

        Each step is a transaction of its own; an upgrade that was interrupted goes on where it stopped.

        Args:
            options: what it may do.
            tell: called with each step's title when it begins.

        Returns:
            Whether something was changed; False if the tables were this version's.

        Raises:
            SchemaNotApplied: the tables are the other implementation's, before version 3.4.
            ConnectorException: the tables may not be changed now, are a newer version's, or a step failed.
        """
        return self._run(upgrade.upgrade(self.connector.schema, options), tell)

    async def upgrade_async(self, options: UpgradeOptions = PLAIN, tell: Callable[[str], None] = _tell_nobody) -> bool:
        """Do as `upgrade`, asynchronously."""
        return await self._run_async(upgrade.upgrade(self.connector.schema, options), tell)

    def get_upgrade(self, options: UpgradeOptions = PLAIN) -> str:
        """Return the SQL that `upgrade` would run on this database now, for psql; an empty text if there is none."""
        return upgrade.as_script(self._run(upgrade.plan(self.connector.schema, options)))

    async def get_upgrade_async(self, options: UpgradeOptions = PLAIN) -> str:
        """Do as `get_upgrade`, asynchronously."""
        return upgrade.as_script(await self._run_async(upgrade.plan(self.connector.schema, options)))

    def verify(self) -> list[str]:
        """Return how the tables, their indexes, triggers and functions differ from what this version expects.

        One line for each difference; nothing is changed, and nothing but the catalogue and the migrations is read.
        """
        return self._run(upgrade.verify())

    async def verify_async(self) -> list[str]:
        """Do as `verify`, asynchronously."""
        return await self._run_async(upgrade.verify())

    def _run(self, flow: upgrade.Flow[T], tell: Callable[[str], None] = _tell_nobody) -> T:
        perform = functools.partial(upgrade.perform, connector=self.connector.get_sync_connector(), tell=tell)
        return run_flow(flow, perform)

    async def _run_async(self, flow: upgrade.Flow[T], tell: Callable[[str], None] = _tell_nobody) -> T:
        perform: Any = functools.partial(upgrade.perform_async, connector=self.connector, tell=tell)
        return await run_flow_async(flow, perform)


def _explain(error: exceptions.ConnectorException) -> exceptions.ConnectorException:
    if upgrade.sqlstate(error) not in _EXISTS:
        return error
    return exceptions.ConnectorException(
        f"{error}\nThe schema was applied before, by this or by another version; nothing was changed. "
        "`procrastinate schema --upgrade` brings it to this version."
    )
