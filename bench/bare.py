"""The ceilings: what the database does by itself, asked by a client that does nothing else.

`python -m bench.bare NAME JOBS` does one of them in a process of its own, and prints what it took as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import psycopg

from procrastinate.connections import Rendering
from procrastinate.store.jobs import FetchJobs
from procrastinate.store.postgres import Statement

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

BATCH = 500

CLAIM = """
update procrastinate_jobs
set status = 'doing', attempted_at = now()
where id in (
  select id from procrastinate_jobs
  where status = 'todo' and waits_for is null
  order by priority desc, id
  limit %(limit)s
  for update skip locked
)
returning id, task_name, args::text
"""
FINISH = "update procrastinate_jobs set status = 'succeeded', finalized_at = now() where id = any (%(ids)s)"
DELETE = "delete from procrastinate_jobs where id = any (%(ids)s)"
INSERT = (
    "insert into procrastinate_jobs (queue_name, task_name, args) values ('default', 'noop', %(args)s::text::jsonb) "
    "returning id"
)
COPY = "copy procrastinate_jobs (queue_name, task_name, args) from stdin"


def _connect() -> Connection:
    return psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True)


def _finish(statement: str) -> float:
    with _connect() as connection:
        start = time.perf_counter()
        while rows := connection.execute(CLAIM, {"limit": BATCH}).fetchall():
            connection.execute(statement.encode(), {"ids": [row[0] for row in rows]})
        return time.perf_counter() - start


def keep(_jobs: int) -> float:
    """Claim and finish with the shortest statements that could do it."""
    return _finish(FINISH)


def delete(_jobs: int) -> float:
    """Claim and delete."""
    return _finish(DELETE)


def insert(jobs: int) -> float:
    """Insert and commit, one by one."""
    with _connect() as connection:
        start = time.perf_counter()
        for number in range(jobs):
            connection.execute(INSERT, {"args": json.dumps({"i": number})}).fetchall()
        return time.perf_counter() - start


def insert_without_trigger(jobs: int) -> float:
    """Insert and commit, one by one, and tell no worker."""
    with _connect() as connection:
        connection.execute("set session_replication_role = replica")
        start = time.perf_counter()
        for number in range(jobs):
            connection.execute(INSERT, {"args": json.dumps({"i": number})}).fetchall()
        return time.perf_counter() - start


def copy(jobs: int) -> float:
    """Copy rows in, each written as it is made."""
    with _connect() as connection, connection.cursor() as cursor:
        start = time.perf_counter()
        with cursor.copy(COPY) as rows:
            for number in range(jobs):
                rows.write_row(("default", "noop", json.dumps({"i": number})))
        return time.perf_counter() - start


def nap(jobs: int, concurrency: int, wake_every: float) -> float:
    """Do not touch the database: wait for a millisecond, so many at a time.

    With `wake_every`, the event loop is woken every so many seconds, as the answers of statements would.
    """

    def wake(sender: socket.socket) -> None:
        with contextlib.suppress(OSError):  # until nobody listens any more
            while True:
                time.sleep(wake_every)
                sender.send(b".")

    async def run() -> float:
        remaining = iter(range(jobs))
        if wake_every:
            sender, receiver = socket.socketpair()
            receiver.setblocking(False)
            asyncio.get_running_loop().add_reader(receiver, receiver.recv, 64)
            threading.Thread(target=wake, args=(sender,), daemon=True).start()

        async def lane() -> None:
            for _ in remaining:
                await asyncio.sleep(0.001)

        start = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(concurrency)))
        return time.perf_counter() - start

    return asyncio.run(run())


def claimer(claim: Statement = Statement(CLAIM, {"limit": 10}), args: int = 2) -> None:  # noqa: B008  is frozen
    """Wait for notifications, and claim what is there; print when each job was got, and finish it.

    The claim answers with the job's id in the first column, and its arguments in the one that is numbered `args`.
    """
    with _connect() as connection:
        connection.execute("listen procrastinate_any_queue_v1")
        print("ready", flush=True)
        while True:
            for _ in connection.notifies(stop_after=1):
                pass
            rows = connection.execute(claim.text.encode(), claim.parameters).fetchall()
            at = time.monotonic_ns()
            for row in rows:
                print(json.loads(row[args])["i"], at, flush=True)
            connection.execute(FINISH, {"ids": [row[0] for row in rows]})


def claimer_like_ours() -> None:
    """Do as `claimer`, with the statement by which our workers claim."""
    with _connect() as connection:
        register = "insert into procrastinate_workers default values returning id"
        ((worker_id,),) = connection.execute(register).fetchall()
    claimer(Rendering().statement(FetchJobs(queues=None, worker_id=worker_id, limit=10, slots=10, most=10)), args=7)


def tick(seconds: int) -> float:
    """Claim from an empty table once a second, on an event loop; return the processor time of that alone."""

    async def run() -> float:
        url = os.environ["BENCH_DATABASE_URL"]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for _ in range(10):  # until it is prepared
                await connection.execute(CLAIM, {"limit": 1})
            start = time.process_time()
            for _ in range(seconds):
                await asyncio.sleep(1)
                await connection.execute(CLAIM, {"limit": 1})
            return time.process_time() - start

    return asyncio.run(run())


CEILINGS: dict[str, Callable[[int], float]] = {
    each.__name__: each for each in (keep, delete, insert, insert_without_trigger, copy)
}


def main(name: str, jobs: int, *rest: str) -> None:
    if name == "claimer":
        claimer_like_ours() if "ours" in rest else claimer()
        return
    if name == "tick":
        print(json.dumps({"seconds": jobs, "cpu": tick(jobs)}))
        return
    started = time.process_time()
    seconds = nap(jobs, int(rest[0]), float(rest[1])) if name == "nap" else CEILINGS[name](jobs)
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - started}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
