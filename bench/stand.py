"""Where the benchmark takes place: a PostgreSQL server, its databases, and what the server counts."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import attrs
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench import processes
from procrastinate.embedded import PostgresServer
from procrastinate.schema import SchemaManager

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "bench"
# Durable, as by default. Room for the piles of a million jobs, and for many clients.
SERVER_SETTINGS = {"shared_buffers": "1GB", "max_connections": "300"}
SHOWN_SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
    "autovacuum",
    "jit",
)


def with_root() -> dict[str, str]:
    """Return the environment in which a process finds the modules of the benchmark."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]


@attrs.frozen
class Counters:
    """What the server has counted for a database up to a moment."""

    commits: int
    wal: int
    buffers: int
    dead: int
    hot: int

    def per_job(self, earlier: Counters, jobs: int, own_commits: int) -> dict[str, float]:
        """Return what each job cost since then, without so many commits of our own."""
        return {
            "commits": (self.commits - earlier.commits - own_commits) / jobs,
            "wal": (self.wal - earlier.wal) / jobs,
            "buffers": (self.buffers - earlier.buffers) / jobs,
            "dead": (self.dead - earlier.dead) / jobs,
        }


class Database:
    """A database, and a connection to it on which every statement commits."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.connection: Connection = psycopg.connect(conninfo, autocommit=True)
        self.statements = 0

    @property
    def url(self) -> str:
        """The address in the form that every driver takes, those of Node included."""
        parts = conninfo_to_dict(self.conninfo)
        password = f":{parts['password']}" if parts.get("password") else ""
        name, user, host, port = (parts.get(key) or "" for key in ("dbname", "user", "host", "port"))
        if str(host).startswith("/"):
            return f"postgresql://{user}@/{name}?host={host}&port={port}"
        return f"postgresql://{user}{password}@{host}:{port}/{name}"

    def execute(self, query: str, *parameters: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        self.statements += 1
        return self.connection.execute(cast("Any", query), parameters or None)

    def value(self, query: str, *parameters: Any) -> Any:
        row = self.execute(query, *parameters).fetchone()
        assert row is not None
        return row[0]

    def counters(self) -> Counters:
        """Read the counters; those of other sessions are complete once these have ended."""
        if self.connection.info.server_version >= 150_000:
            self.execute("select pg_stat_force_next_flush()")
        self.execute("select pg_stat_clear_snapshot()")
        row = self.execute(
            "select xact_commit, (pg_current_wal_insert_lsn() - '0/0')::bigint, blks_hit + blks_read, "
            "tup_updated + tup_deleted, coalesce((select sum(n_tup_hot_upd) from pg_stat_user_tables), 0)::bigint "
            "from pg_stat_database where datname = current_database()"
        ).fetchone()
        assert row is not None
        return Counters(*row)

    @property
    def backend_pid(self) -> int:
        return self.connection.info.backend_pid

    def settle(self) -> None:
        """Have done what filling left for the server to do, so that it is not done while we measure."""
        self.execute("vacuum analyze")

    def close(self) -> None:
        self.connection.close()


class Stand:
    """A running server with its databases, and folders for what the runs leave behind.

    Attributes:
        conninfo: of a database from which others are created.
        server_pid: of the postmaster, None if the server's processes are not on this machine.
        shared: a folder in memory, for tallies.
        logs: a folder for what the processes say.
    """

    def __init__(self, conninfo: str, server_pid: int | None, shared: Path, logs: Path) -> None:
        self.conninfo = conninfo
        self.server_pid = server_pid
        self.shared = shared
        self.logs = logs
        self._administration: Connection = psycopg.connect(conninfo, autocommit=True)
        self._kept: dict[str, Database] = {}

    def close(self) -> None:
        for name in list(self._kept):
            self.drop(name)
        self._administration.close()

    @contextlib.contextmanager
    def new_database(self, name: str, *, with_schema: bool = True) -> Iterator[Database]:
        """Give a new database, which is gone at the end."""
        database = self._create(name, with_schema=with_schema)
        try:
            yield database
        finally:
            database.close()
            self._drop(name)

    def kept_database(self, name: str) -> Database | None:
        """Return the database that was kept under this name, or None."""
        return self._kept.get(name)

    def keep_database(self, name: str) -> Database:
        """Create a database with our tables that stays until the end or until it is dropped."""
        self._kept[name] = database = self._create(name, with_schema=True)
        return database

    def drop(self, name: str) -> None:
        self._kept.pop(name).close()
        self._drop(name)

    def _create(self, name: str, *, with_schema: bool) -> Database:
        self._drop(name)
        self._administration.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        database = Database(make_conninfo(self.conninfo, dbname=name))
        if with_schema:
            database.connection.execute(SchemaManager.get_schema().encode())
        # What was written before must not be flushed, page by page, while we measure.
        self._administration.execute("checkpoint")
        return database

    def _drop(self, name: str) -> None:
        self._administration.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def settings(self) -> dict[str, str]:
        """Return the server's version and the settings that matter."""
        names = ("server_version", *SHOWN_SETTINGS)
        rows = [self._administration.execute(f"show {name}".encode()).fetchone() for name in names]
        return {name: row[0] for name, row in zip(names, rows, strict=True) if row}

    def wait_for_quiet(self, limit: float = 3.0, threshold: float = 0.1) -> None:
        """Wait, for a while at most, until others leave the machine alone."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            before = processes.Load.now(self.server_pid)
            time.sleep(0.3)
            if processes.Load.now(self.server_pid).foreign_since(before) < threshold:
                return


@contextlib.contextmanager
def running_stand(version: int | None = None, logs: Path | None = None) -> Iterator[Stand]:
    """Start a durable server of its own and give a stand on it."""
    memory = Path("/dev/shm")
    root = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    shared = Path(tempfile.mkdtemp(prefix="procrastinate-bench-", dir=root))
    logs = logs or CACHE / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        with PostgresServer(version=version, settings=SERVER_SETTINGS) as server:
            stand = Stand(server.conninfo, server.pid, shared, logs)
            try:
                yield stand
            finally:
                stand.close()
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def insert_jobs(
    database: Database,
    count: int,
    *,
    task: str = "noop",
    queue: str = "'default'",
    priority: str = "0",
    lock: str = "null",
    first: int = 0,
    columns: Sequence[tuple[str, str]] = (),
) -> None:
    """Insert jobs with plain SQL, each with its number as argument; the rest are expressions of SQL in `n`."""
    names = "".join(f", {name}" for name, _ in columns)
    values = "".join(f", {value}" for _, value in columns)
    database.execute(
        f"insert into procrastinate_jobs (queue_name, task_name, priority, lock, args{names}) "
        f"select {queue}, '{task}', {priority}, {lock}, jsonb_build_object('i', n){values} "
        f"from generate_series({first}, {first + count - 1}) as n order by n"
    )
