"""The database goes away and comes back."""

from __future__ import annotations

import random
import threading
import time

import psycopg

from faults.stage import Stage
from faults.suite import scenario

# A worker's pauses between two tries to connect grow to ten seconds, and its pool's may be in the middle of theirs.
RECONNECTION = 40.0


def _works_again(stage: Stage, count: int = 1, seconds: float = RECONNECTION) -> None:
    """See that a job deferred now is run."""
    ids = stage.defer("work", count)
    stage.recovers(
        lambda: not stage.count(f"id >= {min(ids)} and status <> 'succeeded'"), "the worker works again", seconds
    )


def _logs_each_change_once(stage: Stage, outages: int) -> None:
    """Each service says once for each outage that it fails, and once that it works again."""
    services = ("fetcher", "completer", "lock opener", "stager", "listener", "abort poller", "housekeeping")
    for process in stage.processes:
        for service in services:
            failures = process.count(f"ERROR:procrastinate.worker.service:Service {service} failed")
            recoveries = process.count(f"Service {service} works again")
            said = f"{service} said {failures} times that it fails, and {recoveries} times that it works again"
            stage.promise(failures <= outages, f"in {outages} outages, {said}")
            stage.promise(recoveries <= failures, said)


def _restart(stage: Stage, mode: str, downtime: float) -> None:
    workers = [stage.worker(concurrency=4) for _ in range(2)]
    # Longer than any outage: nobody may take it from its worker.
    long_ones = stage.defer("work", 2, seconds=downtime + 2)
    stage.until(lambda: stage.count(f"id >= {min(long_ones)} and status = 'doing'") == len(long_ones), "they run")
    stage.defer("work", 400 if stage.is_long else 50, seconds=0.1)
    stage.defer("work_in_thread", 50, seconds=0.1, each=lambda n: {"lock": f"L{n % 5}"})
    stage.until(lambda: all(map(stage.runs, workers)), "both work")
    with stage.down(mode):
        time.sleep(downtime)
    _works_again(stage)
    stage.settle()
    _logs_each_change_once(stage, 1)


@scenario("PostgreSQL is restarted (fast), gone for 5 s", in_short=True)
def restart_fast(stage: Stage) -> None:
    _restart(stage, "fast", 5 if stage.is_long else 3.5)


@scenario("PostgreSQL crashes (immediate), gone for 5 s", in_short=False)
def restart_immediate(stage: Stage) -> None:
    _restart(stage, "immediate", 5)


@scenario("PostgreSQL is gone for 90 s", trials=1)
def long_outage(stage: Stage) -> None:
    _restart(stage, "fast", 90 if stage.is_long else 10)


@scenario("All backends are terminated, again and again", in_short=True)
def backends_terminated(stage: Stage) -> None:
    stage.defer("work", 1_000 if stage.is_long else 200, seconds=0.02)
    worker = stage.worker(concurrency=4)
    rounds = 10 if stage.is_long else 3
    for _ in range(rounds):
        time.sleep(stage.dice.uniform(0, 0.3))
        stage.query(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        _works_again(stage)
    stage.settle()
    stage.promise(worker.is_alive, "the worker is alive")
    _logs_each_change_once(stage, rounds)


@scenario("Only the backend that listens is terminated", in_short=True)
def listener_terminated(stage: Stage) -> None:
    # Without LISTEN, the next look for jobs would be a minute away.
    worker = stage.worker(fetch_job_polling_interval=60)
    _works_again(stage)
    stage.recoveries.clear()
    for _ in range(5 if stage.is_long else 2):
        ended = stage.query(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and query ilike 'listen %%'"
        )
        stage.promise(len(ended) == 1, f"{len(ended)} backends listened")
        _works_again(stage, seconds=20)
        stage.until(
            lambda: stage.query("select count(*) from pg_stat_activity where query ilike 'listen %%'") == [(1,)],
            "it listens again",
        )
        _works_again(stage, seconds=5)
    stage.promise(worker.count("Service listener works again") >= 1, "the log says that the listener works again")


@scenario("Deferrers are cut off in the middle of a batch: what was acknowledged is there, all or nothing")
def deferrers_cut_off(stage: Stage) -> None:
    proxy = stage.proxy()
    stop = threading.Event()
    acknowledged: list[int] = []
    sizes: list[int] = []

    def defer(seed: int) -> None:
        from procrastinate import jobs  # noqa: PLC0415
        from procrastinate.store.jobs import DeferJobs  # noqa: PLC0415
        from procrastinate.sync_psycopg_connector import SyncPsycopgConnector  # noqa: PLC0415

        dice = random.Random(seed)
        run = SyncPsycopgConnector().run
        while not stop.is_set():
            try:
                with psycopg.connect(proxy.conninfo, autocommit=True, connect_timeout=5) as connection:
                    while not stop.is_set():
                        batch = [
                            jobs.Job(queue="default", task_name="work", lock=None, queueing_lock=None, task_kwargs={})
                        ] * dice.randint(1, 50)
                        ids = run(DeferJobs(jobs=batch), connection)
                        acknowledged.extend(ids)
                        sizes.append(len(ids))
            except Exception:  # noqa: BLE001  cut off: it begins anew
                time.sleep(0.01)

    stage.worker(concurrency=10)
    threads = [threading.Thread(target=defer, args=[n], daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30 if stage.is_long else 5):
        time.sleep(stage.dice.uniform(0.05, 0.2))
        proxy.cut(reset=bool(stage.dice.getrandbits(1)))
    stop.set()
    for thread in threads:
        thread.join(20)
    stage.offered += acknowledged
    stage.promise(len(sizes) > 1, "deferrers came through")
    stage.settle()
