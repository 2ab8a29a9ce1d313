"""A server that works, but not for us: read-only, full, without slots, with timeouts, with long transactions."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from faults.stage import Stage
from faults.suite import Impossible, scenario
from procrastinate.embedded import FAST_SETTINGS, PostgresServer

RECOVERY = 40.0


def _works(stage: Stage) -> None:
    ids = stage.defer("work", 5, each=lambda n: {"lock": "L" if n % 2 else None})
    query = f"id between {min(ids)} and {max(ids)} and status <> 'succeeded'"
    stage.recovers(lambda: not stage.count(query), "jobs run again", RECOVERY)


def _end_backends(stage: Stage) -> None:
    stage.query(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )


@contextlib.contextmanager
def _setting(stage: Stage, assignment: str) -> Iterator[None]:
    """Have a setting for all new sessions of the database but the stage's own."""
    (name,) = stage.query("select current_database()")[0]
    parameter = assignment.partition(" = ")[0]
    stage.query(f'alter database "{name}" set {assignment}')
    _end_backends(stage)
    try:
        yield
    finally:
        # The stage may have had to connect again.
        stage.query("set default_transaction_read_only = off")
        stage.query("set statement_timeout = 0")
        stage.query(f'alter database "{name}" reset {parameter}')
        _end_backends(stage)


def _with_setting(stage: Stage, assignment: str, seconds: float) -> None:
    worker = stage.worker()
    _works(stage)
    stage.recoveries.clear()
    with _setting(stage, assignment):
        time.sleep(seconds)
    _works(stage)
    stage.promise(worker.is_alive, f"the worker is alive after {assignment}")


@scenario("The server is read-only for 8 s", trials=1, in_short=True)
def read_only(stage: Stage) -> None:
    _with_setting(stage, "default_transaction_read_only = on", 8 if stage.is_long else 3)


@scenario("statement_timeout = 1ms and lock_timeout = 1ms for 8 s", trials=1)
def tight_timeouts(stage: Stage) -> None:
    _with_setting(stage, "statement_timeout = '1ms'", 8 if stage.is_long else 3)
    _with_setting(stage, "lock_timeout = '1ms'", 8 if stage.is_long else 3)


@scenario("Connection slots are exhausted for 15 s", trials=1)
def no_slots(stage: Stage) -> None:
    (database,) = stage.query("select current_database()")[0]
    role = f"{database}_worker"
    stage.query(f'create role "{role}" login')
    stage.query(f'grant all on all tables in schema public to "{role}"')
    stage.query(f'grant all on all sequences in schema public to "{role}"')
    try:
        conninfo = make_conninfo(stage.conninfo, user=role)
        worker = stage.worker(conninfo, pool={"max_size": 3, "min_size": 1})
        _works(stage)
        stage.recoveries.clear()
        stage.query(f'alter role "{role}" connection limit 2')
        _end_backends(stage)
        hogs: list[psycopg.Connection] = []
        deadline = time.monotonic() + (15 if stage.is_long else 5)
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                hogs.append(psycopg.connect(conninfo))
            time.sleep(0.02)
        for hog in hogs:
            hog.close()
        stage.query(f'alter role "{role}" connection limit -1')
        _works(stage)
        stage.promise(worker.is_alive, "the worker is alive")
        stage.stop_workers()
    finally:
        _end_backends(stage)
        stage.query(f'drop owned by "{role}"')
        stage.query(f'drop role "{role}"')


@scenario("A user's transaction holds rows of jobs for a minute: all others run", trials=1, in_short=True)
def rows_held(stage: Stage) -> None:
    seconds = 60 if stage.is_long else 3
    held = stage.defer("work", 2, seconds=1) + stage.defer("work", 2, each=lambda n: {"priority": -9, "lock": "L"})
    worker = stage.worker(concurrency=2)
    stage.until(lambda: stage.count("status = 'doing'") == 2, "the first two run")
    with psycopg.connect(stage.conninfo) as holder:
        holder.execute("select from procrastinate_jobs where id = any(%s) for update", [held])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ids = stage.defer("work", 10)
            query = f"id between {min(ids)} and {max(ids)} and status <> 'succeeded'"
            stage.until(lambda query=query: not stage.count(query), "the other jobs run", 10)
    stage.recovers(lambda: not stage.left, "the held jobs end", 20)
    stage.promise(worker.is_alive, "the worker is alive")


@scenario("A reader holds the xmin horizon for minutes under load: the rate stays", trials=1)
def horizon_held(stage: Stage) -> None:
    stage.worker(concurrency=20)
    rates = []
    with psycopg.connect(stage.conninfo) as holder:
        holder.execute("set transaction isolation level repeatable read")
        holder.execute("select count(*) from procrastinate_jobs")
        end = time.monotonic() + (150 if stage.is_long else 10)
        while time.monotonic() < end:
            start = time.monotonic()
            stage.defer("work", 2_000 if stage.is_long else 300)
            stage.until(lambda: not stage.left, "jobs run", 60)
            rates.append(time.monotonic() - start)
    third = max(len(rates) // 3, 1)
    first, last = sum(rates[:third]) / third, sum(rates[-third:]) / third
    # Dead versions that nothing may remove are walked over; it must not grow out of hand.
    stage.promise(last < 5 * first + 1, f"a batch took {first:.2f} s at first and {last:.2f} s at the end")


@scenario("The server's disk is full, then there is room again", trials=1)
def disk_full(stage: Stage) -> None:
    folder = stage.enter(_small_disk())
    settings = {**FAST_SETTINGS, "synchronous_commit": "on", "max_wal_size": "48MB", "min_wal_size": "32MB"}
    stage.move_to(stage.enter(PostgresServer(folder / "data", settings=settings)))
    worker = stage.worker()
    _works(stage)
    stage.recoveries.clear()
    ballast = folder / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65536)
            file.flush()
    refusals = 0
    while refusals < 20:
        try:
            with psycopg.connect(stage.conninfo, autocommit=True, connect_timeout=5) as connection:
                connection.execute("create table if not exists ballast (text text)")
                while True:
                    connection.execute("insert into ballast select repeat('x', 500) from generate_series(1, 5000)")
        except psycopg.Error:  # no room, in one way or another
            refusals += 1
            time.sleep(0.2)
    ballast.unlink()
    if not stage.server.is_running:
        stage.server.restart()
    _works(stage)
    stage.settle()
    stage.promise(worker.is_alive, "the worker is alive")


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise Impossible("a small file system can be mounted by root only")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=False)
