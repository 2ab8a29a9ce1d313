"""The fixtures that give each test a database of its own."""

from __future__ import annotations

import psycopg


def test_databases_are_separate(empty_database, database):
    with psycopg.connect(empty_database) as empty, psycopg.connect(database) as full:
        assert empty.info.dbname != full.info.dbname
        statement = "select count(*) > 0 from pg_tables where schemaname = 'public'"
        assert empty.execute(statement).fetchone() == (False,)
        assert full.execute(statement).fetchone() == (True,)


def test_connection_commits_by_itself(connection, database):
    connection.execute("create table visible ()")
    with psycopg.connect(database) as other:
        other.execute("table visible")
