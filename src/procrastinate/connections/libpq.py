"""Settings of other drivers in the words of libpq, for sync twins on psycopg."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from procrastinate import exceptions

SAME_NAMES = ("user", "passfile", "service", "servicefile", "target_session_attrs", "krbsrvname", "gsslib")


def from_asyncpg(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `asyncpg.connect` as those of `psycopg.connect`.

    Raises ConnectorException for one that psycopg has no word for.
    """
    found: dict[str, Any] = {name: arguments[name] for name in SAME_NAMES if name in arguments}
    for name, value in arguments.items():
        if value is not None and name in _TRANSLATED:
            found |= _TRANSLATED[name](value)
    return found


def _password(value: Any) -> dict[str, Any]:
    password: Any = value() if callable(value) else value
    if inspect.isawaitable(password):
        raise _no_sync_twin("a password that is a coroutine function")
    return {"password": password}


def _list(name: str) -> Callable[[Any], dict[str, str]]:
    # One for each of several servers, or the one of them all.
    return lambda value: {name: str(value) if isinstance(value, str | int) else ",".join(map(str, value))}


def _sslmode(ssl: Any) -> dict[str, str]:
    match ssl:
        case str():
            return {"sslmode": ssl}
        case bool():
            return {"sslmode": "require" if ssl else "prefer"}
        case _:
            raise _no_sync_twin("an SSLContext (give the file names in the dsn: sslrootcert=…, sslcert=…, sslkey=…)")


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace(" ", "\\ ")


def _no_sync_twin(what: str) -> exceptions.ConnectorException:
    return exceptions.ConnectorException(
        f"Sync calls go through psycopg until the app is open asynchronously, and psycopg cannot use {what}. Open the "
        "app with open_async() first, or use a SyncPsycopgConnector for sync calls."
    )


_TRANSLATED: dict[str, Callable[[Any], dict[str, Any]]] = {
    "host": _list("host"),
    "port": _list("port"),
    "password": _password,
    "database": lambda value: {"dbname": value},
    "ssl": _sslmode,
    "server_settings": lambda value: {"options": " ".join(f"-c {key}={_escaped(text)}" for key, text in value.items())},
    "statement_cache_size": lambda value: {} if value else {"prepare_threshold": None},
    "timeout": lambda value: {"connect_timeout": max(2, round(value))},  # libpq takes whole seconds, at least two
}
