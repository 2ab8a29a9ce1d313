"""Write down what a database has when all migrations are applied, for `procrastinate schema --verify`.

Run it after adding a migration; a test fails until then.
"""

from __future__ import annotations

import json
import pathlib

import psycopg

from procrastinate.embedded import FAST_SETTINGS, PostgresServer
from procrastinate.schema import SchemaManager
from procrastinate.store.tables import ReadCatalog
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

TARGET = pathlib.Path(__file__).resolve().parent.parent / "src" / "procrastinate" / "store" / "catalog.json"


def main() -> None:
    with (
        PostgresServer(settings=FAST_SETTINGS) as server,
        psycopg.connect(server.conninfo, autocommit=True) as connection,
    ):
        connection.execute(SchemaManager.get_schema().encode())
        catalog = SyncPsycopgConnector().run(ReadCatalog(), connection)
    lines = [json.dumps([kind, name, definition]) for (kind, name), definition in sorted(catalog.items())]
    TARGET.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{len(lines)} definitions are in {TARGET}")


if __name__ == "__main__":
    main()
