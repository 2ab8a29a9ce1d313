"""A stand on the server of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.stand import Stand


@pytest.fixture
def stand(postgres_server, tmp_path: Path) -> Iterator[Stand]:
    """A place to measure; its databases are gone at the end."""
    conninfo = postgres_server.conninfo
    if "dbname" not in conninfo_to_dict(conninfo):
        conninfo = make_conninfo(conninfo, dbname="postgres")
    stand = Stand(conninfo, getattr(postgres_server, "pid", None), tmp_path, tmp_path)
    yield stand
    stand.close()
