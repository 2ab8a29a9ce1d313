"""How connectors are told where the database is."""

from __future__ import annotations

import asyncio
import ssl

import asyncpg
import psycopg_pool
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import create_async_engine

import procrastinate
from conformance.urls import as_url
from procrastinate import exceptions
from procrastinate.connections import libpq
from procrastinate.contrib.asyncpg import AsyncpgConnector
from procrastinate.contrib.sqlalchemy import (
    SQLAlchemyAsyncConnector,
    SQLAlchemyConnector,
    SQLAlchemyPsycopg2Connector,
)
from procrastinate.store import tables

CHECK = tables.CheckConnection()


class TestPsycopg:
    def test_parameters_as_keywords(self, database):
        connector = procrastinate.SyncPsycopgConnector(**conninfo_to_dict(database), min_size=1, application_name="me")
        connector.open()
        assert connector.execute_query_one("select current_setting('application_name') as name") == {"name": "me"}
        connector.close()

    async def test_parameters_as_keywords_async_and_in_the_twin(self, database):
        connector = procrastinate.PsycopgConnector(**conninfo_to_dict(database), kwargs={"application_name": "me"})
        async with procrastinate.App(connector=connector).open_async():
            assert await connector.run_async(CHECK)
        query = "select current_setting('application_name') as name"
        with procrastinate.App(connector=connector).open():
            assert connector.get_sync_connector().execute_query_one(query) == {"name": "me"}

    def test_beside_a_function(self):
        with pytest.raises(TypeError, match="have it return host too"):
            procrastinate.SyncPsycopgConnector(host="here", kwargs=dict)

    async def test_functions(self, database):
        async def conninfo():
            return database

        connector = procrastinate.PsycopgConnector(
            conninfo=conninfo, kwargs=lambda: {"application_name": "me"}, min_size=1
        )
        await connector.open_async()
        query = "select current_setting('application_name') as name"
        assert await connector.execute_query_one_async(query) == {"name": "me"}
        await self.listen(connector)
        await connector.close_async()

    async def test_the_users_callback_is_applied_where_we_listen(self, database, connection):
        async def configure(own):
            await own.execute("set application_name = 'configured'")
            await own.commit()

        connector = procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=1, configure=configure)
        await connector.open_async()

        def look():
            query = "select from pg_stat_activity where application_name = 'configured' and query like 'listen%'"
            assert connection.execute(query).fetchall()

        await self.listen(connector, look)
        await connector.close_async()

    async def listen(self, connector, look=lambda: None):
        listening = asyncio.Event()

        async def ignore(*, channel, payload):
            pass

        listener = asyncio.create_task(connector.listen_notify(ignore, ["here"], listening.set))
        await asyncio.wait([listener, asyncio.create_task(listening.wait())], return_when=asyncio.FIRST_COMPLETED)
        look()
        listener.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener

    async def test_a_pool_of_the_other_colour(self, database):
        with psycopg_pool.ConnectionPool(database, min_size=1, open=True) as pool:
            with pytest.raises(exceptions.ConnectorException, match="AsyncConnectionPool"):
                await procrastinate.PsycopgConnector().open_async(pool)
            pool.wait()
        async with psycopg_pool.AsyncConnectionPool(database, min_size=1, open=False) as pool:
            with pytest.raises(exceptions.ConnectorException, match="open_async"):
                procrastinate.SyncPsycopgConnector().open(pool)
            await pool.wait()


class TestAsyncpg:
    async def test_settings_as_keywords_and_in_the_twin(self, database):
        parts = conninfo_to_dict(database)
        arguments = {
            "host": parts["host"],
            "port": int(parts.get("port", 5432)),
            "user": parts.get("user"),
            "database": parts["dbname"],
        }
        connector = AsyncpgConnector(min_size=1, max_size=2, server_settings={"application_name": "a b"}, **arguments)
        query = "select current_setting('application_name') as name"
        with procrastinate.App(connector=connector).open():
            assert connector.get_sync_connector().execute_query_one(query) == {"name": "a b"}
        async with procrastinate.App(connector=connector).open_async():
            assert await connector.execute_query_one_async(query) == {"name": "a b"}

    async def test_a_pool_with_codecs_of_its_own(self, database):
        async def init(connection):
            import json  # noqa: PLC0415  as a user would

            await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

        async with asyncpg.create_pool(as_url(database), min_size=1, max_size=2, init=init) as pool:
            connector = AsyncpgConnector()
            await connector.open_async(pool)
            query = "select %(a)s::jsonb as a, '\"text\"'::jsonb as b"
            assert await connector.execute_query_one_async(query, a={"b": [1]}) == {"a": {"b": [1]}, "b": "text"}
            await connector.close_async()

    async def test_a_pool_too_small_to_listen(self, database):
        async with asyncpg.create_pool(as_url(database), min_size=1, max_size=1) as pool:
            connector = AsyncpgConnector()
            await connector.open_async(pool)
            with pytest.raises(exceptions.ConnectorException, match="listen_notify=False"):
                await connector.listen_notify(None, ["here"])

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"host": ["a", "b"], "port": [1, 2], "database": "d"}, {"host": "a,b", "port": "1,2", "dbname": "d"}),
            ({"ssl": "verify-full", "timeout": 0.5}, {"sslmode": "verify-full", "connect_timeout": 2}),
            ({"ssl": True, "statement_cache_size": 0}, {"sslmode": "require", "prepare_threshold": None}),
            ({"password": lambda: "secret", "user": "me", "min_size": 1}, {"password": "secret", "user": "me"}),
            ({"server_settings": {"a.b": r"c\ d"}}, {"options": r"-c a.b=c\\\ d"}),
        ],
    )
    def test_in_libpqs_words(self, arguments, expected):
        assert libpq.from_asyncpg(arguments) == expected

    def test_without_words(self):
        with pytest.raises(exceptions.ConnectorException, match="SSLContext"):
            libpq.from_asyncpg({"ssl": ssl.create_default_context()})


class TestSQLAlchemy:
    @pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
    async def test_an_async_engine(self, database, driver):
        engine = create_async_engine(as_url(database, driver))
        connector = SQLAlchemyAsyncConnector(engine)
        app = procrastinate.App(connector=connector)
        with app.open():
            assert app.check_connection()
        for given in (None, engine):
            async with app.open_async(given):
                assert await app.check_connection_async()
                side = connector.side_connector()
                side.open()
                assert side.run(CHECK)
                side.close()
        async with engine.connect() as connection:  # it was not disposed of, or it would do nothing of use
            assert await connection.run_sync(lambda inner: inner.dialect.name) == "postgresql"
        await engine.dispose()

    def test_an_engine(self, database):
        engine = sqlalchemy.create_engine(as_url(database, "psycopg2"))
        app = procrastinate.App(connector=SQLAlchemyConnector(engine))
        for given in (None, engine):
            with app.open(given):
                assert app.check_connection()
            with pytest.raises(exceptions.AppNotOpen):
                app.check_connection()
        assert engine.pool.checkedin() == 1
        engine.dispose()

    def test_the_driver_where_the_url_names_none(self, database):
        for connector, driver in ((SQLAlchemyConnector, "psycopg"), (SQLAlchemyPsycopg2Connector, "psycopg2")):
            opened = connector(dsn=as_url(database).replace("postgresql", "postgres"))
            opened.open()
            assert opened.engine.dialect.driver == driver
            opened.close()

    @pytest.mark.parametrize("connector", [SQLAlchemyConnector, SQLAlchemyAsyncConnector])
    def test_another_database_or_no_url(self, connector):
        for dsn in ("sqlite://", "mysql://somewhere"):
            with pytest.raises(exceptions.ConnectorException, match="needs PostgreSQL"):
                connector(dsn)
        with pytest.raises(exceptions.ConnectorException, match="looks like"):
            connector("somewhere")

    def test_an_async_driver(self, database):
        with pytest.raises(exceptions.ConnectorException, match="SQLAlchemyAsyncConnector"):
            SQLAlchemyConnector(as_url(database, "asyncpg")).open()
