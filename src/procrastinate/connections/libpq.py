"""Settings of other drivers in the words of libpq, for sync twins on psycopg."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from procrastinate import exceptions

SAME_NAMES = (
    "host", "port", "user", "password", "passfile", "service", "servicefile", "target_session_attrs", "krbsrvname",
    "gsslib",
)  # fmt: skip


def from_asyncpg(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `asyncpg.connect` as those of `psycopg.connect`.

    Raises ConnectorException for one that psycopg has no word for.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        match name:
            case "password" if callable(value):
                found[name] = value()
                if inspect.isawaitable(found[name]):
                    raise _no_sync_twin("a password that is a coroutine function")
            case "host" | "port" if isinstance(value, list | tuple):
                found[name] = ",".join(str(item) for item in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            case "ssl":
                found |= _sslmode(value)
            case "server_settings":
                found["options"] = " ".join(f"-c {key}={_escaped(text)}" for key, text in value.items())
            case "statement_cache_size":
                found |= {} if value else {"prepare_threshold": None}
            case "timeout":
                found["connect_timeout"] = max(2, round(value))  # libpq takes whole seconds, at least two
            case "database":
                found["dbname"] = value
            case _ if name in SAME_NAMES:
                found[name] = value
            case _:
                pass
    return {name: value for name, value in found.items() if value is not None}


def _sslmode(ssl: Any) -> dict[str, str]:
    match ssl:
        case str():
            return {"sslmode": ssl}
        case bool() | None:
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
