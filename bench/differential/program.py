"""One program of tasks, run by either implementation: prints what it saw, and what the tables say at the end, as JSON.

It imports nothing but what both have, and runs in a process and on a database of its own: `program.py CONNINFO`.
"""

# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ARG001  tasks as many users write them, without annotations

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

import procrastinate
from procrastinate import exceptions, jobs

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017  as users wrote it
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
ROWS = """
    select args ->> 'label', queue_name, task_name, priority, lock, queueing_lock, args, status::text, attempts,
      abort_requested, worker_id is null,
      case when scheduled_at is null then 'none' when scheduled_at <= now() then 'past' else 'future' end
    from procrastinate_jobs order by id
"""
COLUMNS = [
    "label",
    "queue_name",
    "task_name",
    "priority",
    "lock",
    "queueing_lock",
    "args",
    "status",
    "attempts",
    "abort_requested",
    "no_worker",
    "schedule",
]
KINDS = ["AlreadyEnqueued", "NoResult", "ConnectorException", "TypeError", "ValueError"]
EVENTS = """
    select j.args ->> 'label', e.type::text
    from procrastinate_events e join procrastinate_jobs j on j.id = e.job_id order by e.id
"""
PERIODIC = "select task_name, periodic_id, defer_timestamp from procrastinate_periodic_defers order by 1, 2, 3"

Step = Callable[["Program"], Awaitable[None]]
STEPS: list[Step] = []


def step(function: Step) -> Step:
    """Add a step to the program."""
    STEPS.append(function)
    return function


class Redirect(procrastinate.BaseRetryStrategy):
    """Retries twice, each time elsewhere."""

    def get_retry_decision(self, *, exception, job):
        if job.attempts >= 2:
            return None
        return procrastinate.RetryDecision(
            retry_in={"seconds": 0}, priority=job.priority + 1, queue="elsewhere", lock=f"lock {job.attempts}"
        )


class Program:
    """The app, and what was seen so far."""

    def __init__(self, conninfo: str) -> None:
        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))
        self.manager = self.app.job_manager
        self.seen: list[list[Any]] = []
        self.add_plain_tasks()
        self.add_failing_tasks()
        self.add_aborted_tasks()

    def add_plain_tasks(self) -> None:
        app = self.app

        @app.task(name="ok", pass_context=True)
        async def ok(context, **arguments):
            self.see("ran", arguments["label"], context.job.attempts)

        @app.task(name="ok_sync", aliases=["alias"], queue="side", priority=2)
        def ok_sync(label):
            self.see("ran", label)

        @app.task(name="spawn", pass_context=True)
        async def spawn(context, label):
            await context.app.configure_task("ok").defer_async(label=f"{label}, child")

        @app.periodic(cron="0 0 1 1 *", queue="cron", lock="tick", task_kwargs={"label": "periodic"})
        @app.task(name="tick")
        async def tick(timestamp, label):
            self.see("ran", label)

    def add_failing_tasks(self) -> None:
        app = self.app

        def failing(name, **options):
            @app.task(name=name, pass_context=True, **options)
            def fail(context, label):
                self.see("ran", label, context.job.attempts, context.job.queue, context.job.priority, context.job.lock)
                raise ValueError(label)

        failing("fail")
        failing("fail_once_more", retry=1)
        failing("fail_thrice", retry=3)
        failing("redirect", retry=Redirect())
        failing("other_error", retry=procrastinate.RetryStrategy(max_attempts=5, retry_exceptions=[KeyError]))
        failing("later", retry=procrastinate.RetryStrategy(max_attempts=5, wait=100_000))

    def add_aborted_tasks(self) -> None:
        app = self.app

        @app.task(name="abort_self", pass_context=True)
        async def abort_self(context, label, swallow=False):
            try:
                # The cancellation may come before this returns.
                await context.app.job_manager.cancel_job_by_id_async(context.job.id, abort=True)
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not swallow:
                    raise

        @app.task(name="abort_self_retrying", pass_context=True, retry=2)
        async def abort_self_retrying(context, label):
            await context.app.job_manager.cancel_job_by_id_async(context.job.id, abort=True)
            await asyncio.sleep(60)

        @app.task(name="abort_then_fail", pass_context=True, retry=2)
        async def abort_then_fail(context, label):
            try:
                # The cancellation may come before this returns.
                await context.app.job_manager.cancel_job_by_id_async(context.job.id, abort=True)
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ValueError(label) from None

        @app.task(name="abort_spontaneously", retry=2)
        def abort_spontaneously(label):
            raise exceptions.JobAborted

    def see(self, *what: Any) -> None:
        self.seen.append(list(what))

    async def defer(self, label: str, task: str = "ok", **options: Any) -> Any:
        """Defer a job, and see how that ends; return its id."""

        async def verb() -> int:
            return await self.app.configure_task(task, **options).defer_async(label=label)

        return await self.attempt(label, verb())

    async def attempt(self, what: str, verb: Awaitable[Any]) -> Any:
        """See which error the verb raises, if any; return its result."""
        try:
            return await verb
        except Exception as error:  # noqa: BLE001  which one it is, is what we want to know
            names = {kind.__name__ for kind in type(error).__mro__}
            self.see("error", what, next((kind for kind in KINDS if kind in names), type(error).__name__))

    async def work(self, **options: Any) -> None:
        """Run a worker until nothing is left."""
        defaults = {"wait": False, "install_signal_handlers": False, "abort_job_polling_interval": 0.1}
        await self.app.run_worker_async(**{**defaults, **options})


@step
async def priorities(p):
    for priority in (5, 7, -1, 6):
        await p.defer(f"priority {priority}", priority=priority)
    await p.defer("by alias", "alias")
    await p.defer("own queue", "alias", queue="mine", priority=9)
    await p.work()


@step
async def batches(p):
    ok = p.app.configure_task("ok", queue="batch", priority=1, lock="batch")
    ids = await ok.batch_defer_async({"label": "batch 1", "x": [1, {"y": None}]}, {"label": "batch 2", "x": 1.5})
    p.see("ids ascend", ids == sorted(ids), len(ids))
    p.see("empty batch", await ok.batch_defer_async())
    locked = p.app.configure_task("ok", queueing_lock="batch")
    await p.attempt("batch with one queueing lock", locked.batch_defer_async({"label": "no 1"}, {"label": "no 2"}))
    await p.work()


@step
async def locks(p):
    await p.defer("lock, priority 1", lock="a", priority=1)
    await p.defer("lock, priority 3", lock="a", priority=3)
    await p.defer("lock, fails", "fail_once_more", lock="a", priority=2)
    await p.defer("head in the future", lock="b", schedule_at=FUTURE)
    await p.defer("behind the head", lock="b")
    await p.defer("other queue's head", lock="c", queue="nobody")
    await p.defer("behind the other queue", lock="c", queue="read")
    await p.defer("empty lock", lock="")
    await p.work(queues=["default", "read"], concurrency=3)


@step
async def queueing_locks(p):
    await p.defer("queueing 1", queueing_lock="q")
    await p.defer("queueing 2", queueing_lock="q")
    await p.defer("queueing 3", queueing_lock="Q")
    await p.work()
    await p.defer("queueing 4", queueing_lock="q")


@step
async def retries(p):
    for name in ("fail", "fail_once_more", "fail_thrice", "redirect", "other_error", "later"):
        await p.defer(name, name)
    await p.work()


@step
async def scheduled(p):
    await p.defer("due long ago", schedule_at=PAST)
    await p.defer("due later", schedule_at=FUTURE)
    await p.defer("due at once", schedule_in={"seconds": 0})
    await p.defer("due in an hour", schedule_in={"hours": 1})
    await p.work()


@step
async def bad_jobs(p):
    await p.defer("unknown task", "unknown")
    await p.attempt("no JSON", p.app.configure_task("ok").defer_async(label="no", x=object()))
    await p.attempt("not a number", p.app.configure_task("ok").defer_async(label="no", x=float("nan")))
    await p.attempt("NUL", p.app.configure_task("ok").defer_async(label="no", x="\0"))
    await p.defer("name too long", "t" * 129)
    generic = jobs.Job(
        queue="default", lock=None, queueing_lock=None, task_name="ok_sync", task_kwargs={"label": "wrong", "y": 1}
    )
    await p.attempt("wrong arguments", p.manager.defer_job_async(generic))
    await p.work()


@step
async def cancels(p):
    cancel = p.manager.cancel_job_by_id_async
    for label, options in (
        ("cancelled", {}),
        ("cancelled with abort", {"abort": True}),
        ("deleted", {"delete_job": True}),
        ("deleted with abort", {"delete_job": True, "abort": True}),
    ):
        job_id = await p.defer(label)
        p.see(label, await cancel(job_id, **options), await cancel(job_id, **options))
    future = await p.defer("cancelled before its time", schedule_at=FUTURE)
    p.see("future", await cancel(future))
    p.see("unknown", await cancel(10_000_000), await cancel(10_000_000, abort=True))
    done = await p.defer("not cancelled")
    await p.work()
    p.see("done", await cancel(done), await cancel(done, abort=True), await cancel(done, delete_job=True))


@step
async def aborts(p):
    for name in ("abort_self", "abort_self_retrying", "abort_then_fail", "abort_spontaneously"):
        await p.defer(name, name)
    await p.app.configure_task("abort_self").defer_async(label="abort swallowed", swallow=True)
    await p.work()


@step
async def deletions(p):
    for condition in ("never", "successful", "always"):
        for name in ("ok", "fail", "fail_once_more", "abort_spontaneously", "unknown"):
            await p.defer(f"{name}, delete {condition}", name)
        await p.work(delete_jobs=condition)


@step
async def by_hand(p):
    manager, now = p.manager, datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017
    retry, finish = manager.retry_job_by_id_async, manager.finish_job_by_id_async
    failed = await p.defer("failed, retried by hand", "fail")
    done = await p.defer("succeeded, not retried")
    await p.work()
    await p.attempt("retry failed", retry(failed, retry_at=FUTURE, priority=4, queue="hand", lock="hand"))
    waiting = await p.defer("waiting, not retried", queue="hand")
    for job_id in (done, waiting, 10_000_000):
        await p.attempt("retry others", retry(job_id, retry_at=now))
    worker_id = await manager.register_worker()
    await p.defer("fetched and finished", queue="fetch")
    await p.defer("fetched and retried", queue="fetch")
    await p.defer("fetched and aborted", queue="fetch")
    await p.defer("fetched, abort requested, retried", queue="fetch")
    await p.defer("fetched and left", queue="fetch", lock="left")
    await p.defer("behind what was left", queue="fetch", lock="left")
    fetched = []
    while job := await manager.fetch_job(["fetch"], worker_id):
        fetched.append(job)
        p.see("fetched", job.task_kwargs["label"], job.status, job.attempts)
    first, second, third, fourth, _ = fetched
    await p.attempt("finish as todo", manager.finish_job(first, jobs.Status.TODO, delete_job=False))
    await manager.finish_job(first, jobs.Status.SUCCEEDED, delete_job=False)
    await p.attempt("finish twice", manager.finish_job(first, jobs.Status.SUCCEEDED, delete_job=False))
    await manager.retry_job(second, retry_at=FUTURE)
    await manager.finish_job(third, jobs.Status.ABORTED, delete_job=False)
    await manager.cancel_job_by_id_async(fourth.id, abort=True)
    p.see("to abort", await manager.list_jobs_to_abort_async() == [fourth.id])
    await manager.retry_job(fourth)
    unstarted = await p.defer("finished before its start", queue="hand")
    await p.attempt("finish todo", finish(unstarted, jobs.Status.FAILED, delete_job=False))
    await p.attempt("finish unknown", finish(10_000_000, jobs.Status.FAILED, delete_job=False))
    await p.attempt("status of unknown", manager.get_job_status_async(10_000_000))
    p.see("empty queues", await manager.fetch_job([], worker_id))
    await p.attempt("unknown worker", manager.fetch_job(None, 10_000_000))
    p.see("stalled", [job.task_kwargs["label"] for job in await manager.get_stalled_jobs()])
    await manager.unregister_worker(worker_id)
    p.see("stalled", [job.task_kwargs["label"] for job in await manager.get_stalled_jobs()])


@step
async def periodic(p):
    def tick(timestamp):
        arguments = {"timestamp": timestamp, "label": f"tick {timestamp}"}
        return jobs.Job(queue="cron", lock=None, queueing_lock="tick", task_name="tick", task_kwargs=arguments)

    async def defer(timestamp, periodic_id=""):
        return await p.manager.defer_periodic_job(tick(timestamp), periodic_id, timestamp)

    for timestamp, periodic_id in ((100, ""), (100, ""), (160, "")):
        job_id = await p.attempt("tick", defer(timestamp, periodic_id))
        p.see("tick", timestamp, job_id is not None)
    await p.work(queues=["cron"])
    for timestamp, periodic_id in ((160, ""), (160, "other"), (220, "other")):
        job_id = await p.attempt("tick", defer(timestamp, periodic_id))
        p.see("tick", timestamp, job_id is not None)
        await p.work(queues=["cron"])
    p.see("late tick", await p.attempt("late", defer(100)) is not None)
    await p.attempt("wrong timestamp", p.manager.defer_periodic_job(tick(280), "", 281))


@step
async def children(p):
    await p.defer("parent", "spawn")
    await p.work()


@step
async def counts(p):
    for verb in (p.manager.list_queues_async, p.manager.list_tasks_async, p.manager.list_locks_async):
        for line in await verb():
            p.see(verb.__name__, *(int(value) if key != "name" else value for key, value in sorted(line.items())))
    p.see("filtered", len(await p.manager.list_jobs_async(status="failed", task="fail")))


async def run(conninfo: str) -> dict[str, Any]:
    program = Program(conninfo)
    snapshots: dict[str, Any] = {}
    async with program.app.open_async():
        await program.app.schema_manager.apply_schema_async()
        for function in STEPS:
            program.seen = []
            async with asyncio.timeout(120):
                await function(program)
            snapshots[function.__name__] = {"seen": program.seen}
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            rows = [dict(zip(COLUMNS, row)) for row in await (await connection.execute(ROWS)).fetchall()]  # noqa: B905
            events: dict[str, list[str]] = {}
            for label, kind in await (await connection.execute(EVENTS)).fetchall():
                events.setdefault(label, []).append(kind)
            ticks = await (await connection.execute(PERIODIC)).fetchall()
        # Retention last, for it removes what was to be compared.
        kept = {}
        for flags in ({}, {"include_failed": True}, {"include_cancelled": True}, {"include_aborted": True}):
            await program.manager.delete_old_jobs(nb_hours=0, **flags)
            left = await program.manager.list_jobs_async()
            kept[str(sorted(flags))] = sorted(job.task_kwargs["label"] for job in left)
    return {"steps": snapshots, "rows": rows, "events": events, "periodic_defers": ticks, "kept": kept}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    print(json.dumps(asyncio.run(run(sys.argv[1])), default=str))
