"""A database's address as each driver wants it."""

from __future__ import annotations

import urllib.parse

from psycopg.conninfo import conninfo_to_dict


def as_url(conninfo: str, driver: str | None = None) -> str:
    """Return libpq's words as a URL, for SQLAlchemy with the driver's name in it."""
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    user, database = (urllib.parse.quote(parts.pop(name, ""), safe="") for name in ("user", "dbname"))
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    # A folder of sockets is no host of a URL, but it may be one of its parameters.
    return f"{scheme}://{user}@/{database}?{urllib.parse.urlencode(parts)}"
