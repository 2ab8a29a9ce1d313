"""The standby takes over: a multi-host DSN finds the server that takes writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from faults.judge import Rules
from faults.stage import Stage
from faults.suite import scenario
from procrastinate.embedded import FAST_SETTINGS, PostgresServer, find_binaries

SETTINGS = {
    **FAST_SETTINGS,
    "synchronous_commit": "on",
    "max_wal_size": "512MB",
    "wal_level": "replica",
    "hot_standby": "on",
}
RECOVERY = 60.0


@contextlib.contextmanager
def _pair(*, is_synchronous: bool) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Start a primary and a streaming standby of it."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/var/tmp") as root:
        Path(root).chmod(0o755)
        with PostgresServer(Path(root, "primary"), listen="loopback", settings=SETTINGS) as primary:
            data = Path(root, "primary", "pgdata")
            owner = data.stat()
            home = Path(root, "standby")
            home.mkdir()
            os.chown(home, owner.st_uid, owner.st_gid)
            # A folder as the primary's own.
            for name in ("procrastinate.json", "password"):
                shutil.copy2(Path(root, "primary", name), home / name)
                os.chown(home / name, owner.st_uid, owner.st_gid)
            # The server's own copy, if its user cannot reach the programs where they are.
            copies = sorted(Path(root, "primary").glob("binaries-*/*/*/bin"))
            program = (copies or [find_binaries().folder])[0] / "pg_basebackup"
            subprocess.run(
                [program, "-d", primary.conninfo, "-D", home / "pgdata", "-R", "-X", "stream"],
                check=True,
                capture_output=True,
                user=owner.st_uid if os.geteuid() == 0 else None,
                cwd="/",
            )
            with PostgresServer(home, listen="loopback", settings=SETTINGS) as standby:
                with psycopg.connect(primary.conninfo, autocommit=True) as connection:
                    if is_synchronous:
                        connection.execute("alter system set synchronous_standby_names = '*'")
                        connection.execute("select pg_reload_conf()")
                    streaming = "select count(*) from pg_stat_replication where state = 'streaming'"
                    while connection.execute(streaming).fetchone() != (1,):
                        time.sleep(0.05)
                yield primary, standby


def _fail_over(stage: Stage, *, is_synchronous: bool) -> None:
    primary, standby = stage.enter(_pair(is_synchronous=is_synchronous))
    stage.move_to(primary)
    # One password: the standby is a copy.
    dsn = make_conninfo(
        primary.conninfo,
        host=f"{primary.host},{standby.host}",
        port=f"{primary.port},{standby.port}",
        target_session_attrs="read-write",
    )
    workers = [stage.worker(dsn, concurrency=4) for _ in range(2)]
    stage.defer("work", 200, seconds=0.05, each=lambda n: {"lock": f"L{n % 10}" if n % 2 else None})
    stage.until(lambda: stage.count("status = 'succeeded'") > 20, "they work")
    pid = primary.pid
    assert pid is not None
    # To the last moment jobs are deferred and acknowledged.
    for _ in range(20):
        stage.defer("work", 5)
    os.kill(pid, signal.SIGQUIT)
    start = time.monotonic()
    with psycopg.connect(standby.conninfo, autocommit=True) as connection:
        connection.execute("select pg_promote()")
    stage.server, stage.conninfo = standby, standby.conninfo
    (probe,) = stage.defer("work")
    probe_ran = f"id = {probe} and status = 'succeeded'"
    stage.recovers(lambda: stage.count(probe_ran), "the workers work on the new primary", RECOVERY, since=start)
    stage.settle()
    stage.promise(all(worker.is_alive for worker in workers), "the workers are alive")


@scenario("Failover to a synchronous standby, by promotion", trials=3)
def failover_synchronous(stage: Stage) -> None:
    # An outcome may have been sent and not been acknowledged: the job is then found running, and runs once more.
    stage.rules = Rules(may_rescue=True)
    _fail_over(stage, is_synchronous=True)


@scenario(
    "Failover to an asynchronous standby: the last commits may be lost, and with them jobs and outcomes", trials=3
)
def failover_asynchronous(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True, may_lose=True)
    _fail_over(stage, is_synchronous=False)
