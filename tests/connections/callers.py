"""Connections of every kind as callers hold them, with one way to begin, commit and roll back."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiopg
import asyncpg
import attrs
import psycopg
import psycopg2
import sqlalchemy
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio

from conformance.urls import as_url


@attrs.frozen
class Caller:
    """Somebody who holds a connection with an open transaction, or one that commits each statement.

    Attributes:
        connection: what is given as `connection=`.
        is_async: the colour of the verbs that take it.
        execute: runs SQL on it.
    """

    connection: Any
    is_async: bool
    execute: Callable[[str], Any]
    _commit: Callable[[], Any]
    _rollback: Callable[[], Any]

    async def commit(self) -> None:
        await done(self._commit())

    async def rollback(self) -> None:
        await done(self._rollback())

    async def call(self, verb: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a verb or its async twin, whichever takes this connection."""
        owner = getattr(verb, "__self__", None)
        if self.is_async and not inspect.iscoroutinefunction(verb):
            verb = getattr(owner, f"{verb.__name__}_async")
        return await done(verb(*arguments, **options))


async def done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@contextlib.asynccontextmanager
async def psycopg_sync(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
    with psycopg.connect(database, autocommit=autocommit) as connection:
        yield Caller(connection, False, connection.execute, connection.commit, connection.rollback)


@contextlib.asynccontextmanager
async def psycopg_async(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=autocommit) as connection:
        yield Caller(connection, True, connection.execute, connection.commit, connection.rollback)


@contextlib.asynccontextmanager
async def psycopg2_sync(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
    with contextlib.closing(psycopg2.connect(database)) as connection:
        connection.autocommit = autocommit
        yield Caller(
            connection, False, lambda sql: connection.cursor().execute(sql), connection.commit, connection.rollback
        )


@contextlib.asynccontextmanager
async def asyncpg_connection(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
    connection = await asyncpg.connect(as_url(database))
    try:
        async with _asyncpg_caller(connection, autocommit=autocommit) as caller:
            yield caller
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def asyncpg_pooled(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
    async with (
        asyncpg.create_pool(as_url(database), min_size=1, max_size=1) as pool,
        pool.acquire() as connection,
        _asyncpg_caller(connection, autocommit=autocommit) as caller,
    ):
        yield caller


@contextlib.asynccontextmanager
async def _asyncpg_caller(connection: Any, *, autocommit: bool) -> AsyncIterator[Caller]:
    if autocommit:
        yield Caller(connection, True, connection.execute, lambda: None, lambda: None)
        return
    transaction = connection.transaction()
    await transaction.start()
    yield Caller(connection, True, connection.execute, transaction.commit, transaction.rollback)


@contextlib.asynccontextmanager
async def aiopg_connection(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
    async with aiopg.connect(database, enable_hstore=False) as connection:

        async def execute(sql: str) -> None:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)

        if not autocommit:
            await execute("begin")
        yield Caller(connection, True, execute, lambda: execute("commit"), lambda: execute("rollback"))


def sqlalchemy_connection(driver: str) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def hold(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
        engine = sqlalchemy.create_engine(as_url(database, driver), **isolation(autocommit))
        with engine.connect() as connection:
            execute = connection.exec_driver_sql
            yield Caller(connection, False, execute, connection.commit, connection.rollback)
        engine.dispose()

    return hold


def sqlalchemy_session(driver: str, *, scoped: bool = False) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def hold(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
        engine = sqlalchemy.create_engine(as_url(database, driver), **isolation(autocommit))
        factory = orm.sessionmaker(engine)
        session = orm.scoped_session(factory) if scoped else factory()
        yield Caller(
            session, False, lambda sql: session.execute(sqlalchemy.text(sql)), session.commit, session.rollback
        )
        session.close()
        engine.dispose()

    return hold


def sqlalchemy_async_connection(driver: str) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def hold(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
        engine = sqlalchemy_asyncio.create_async_engine(as_url(database, driver), **isolation(autocommit))
        async with engine.connect() as connection:
            execute = connection.exec_driver_sql
            yield Caller(connection, True, execute, connection.commit, connection.rollback)
        await engine.dispose()

    return hold


def sqlalchemy_async_session(driver: str) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def hold(database: str, *, autocommit: bool) -> AsyncIterator[Caller]:
        engine = sqlalchemy_asyncio.create_async_engine(as_url(database, driver), **isolation(autocommit))
        async with sqlalchemy_asyncio.AsyncSession(engine) as session:
            yield Caller(
                session, True, lambda sql: session.execute(sqlalchemy.text(sql)), session.commit, session.rollback
            )
        await engine.dispose()

    return hold


def isolation(autocommit: bool) -> dict[str, str]:
    return {"isolation_level": "AUTOCOMMIT"} if autocommit else {}


KINDS: dict[str, Callable[..., contextlib.AbstractAsyncContextManager[Caller]]] = {
    "psycopg": psycopg_sync,
    "psycopg_async": psycopg_async,
    "psycopg2": psycopg2_sync,
    "asyncpg": asyncpg_connection,
    "asyncpg_pooled": asyncpg_pooled,
    "aiopg": aiopg_connection,
    "sqlalchemy_psycopg": sqlalchemy_connection("psycopg"),
    "sqlalchemy_psycopg2": sqlalchemy_connection("psycopg2"),
    "sqlalchemy_session_psycopg": sqlalchemy_session("psycopg"),
    "sqlalchemy_session_psycopg2": sqlalchemy_session("psycopg2"),
    "sqlalchemy_scoped_session": sqlalchemy_session("psycopg", scoped=True),
    "sqlalchemy_async_psycopg": sqlalchemy_async_connection("psycopg"),
    "sqlalchemy_async_asyncpg": sqlalchemy_async_connection("asyncpg"),
    "sqlalchemy_async_session_psycopg": sqlalchemy_async_session("psycopg"),
    "sqlalchemy_async_session_asyncpg": sqlalchemy_async_session("asyncpg"),
}
