"""Every event in every state of a job: each result is defined, and the worker lives through all of them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Awaitable, Callable
from typing import Any

from faults.judge import Rules
from faults.stage import Stage
from faults.suite import scenario
from procrastinate import exceptions, jobs
from procrastinate.app import App

WAITING = ("ready", "scheduled", "blocked")
RUNNING = ("doing", "doing, abort asked")
ENDED = ("succeeded", "failed", "cancelled", "aborted")
STATES = (*WAITING, *RUNNING, *ENDED, "absent")
REFUSED = "refused"


def _finish(status: jobs.Status, *, delete: bool = False) -> Callable[[App, int], Awaitable[Any]]:
    return lambda app, job_id: app.job_manager.finish_job_by_id_async(job_id, status, delete)


async def _defer_again(app: App, job_id: int) -> Any:
    settings = {"queue": "nobody's", "queueing_lock": f"Q{job_id}"}
    return await app.configure_task("work", **settings).defer_async()


EVENTS: dict[str, Callable[[App, int], Awaitable[Any]]] = {
    "cancel": lambda app, job_id: app.job_manager.cancel_job_by_id_async(job_id),
    "abort": lambda app, job_id: app.job_manager.cancel_job_by_id_async(job_id, abort=True),
    "cancel and delete": lambda app, job_id: app.job_manager.cancel_job_by_id_async(job_id, delete_job=True),
    "retry": lambda app, job_id: app.job_manager.retry_job_by_id_async(job_id, datetime.datetime.now(datetime.UTC)),
    "retry later": lambda app, job_id: app.job_manager.retry_job_by_id_async(job_id, _in_an_hour()),
    "run now": lambda app, job_id: app.job_manager.run_job_now_by_id_async(job_id),
    "finish as succeeded": _finish(jobs.Status.SUCCEEDED),
    "finish as failed": _finish(jobs.Status.FAILED),
    "finish as aborted": _finish(jobs.Status.ABORTED),
    "finish and delete": _finish(jobs.Status.SUCCEEDED, delete=True),
    "defer a duplicate": _defer_again,
}


def _in_an_hour() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)


def expected(event: str, state: str) -> tuple[Any, str | None]:  # noqa: PLR0911  a table
    """Return the answer (True for a change, False for none, or REFUSED) and the status that the job comes to have."""
    status = {"absent": None}.get(state, "todo" if state in WAITING else "doing" if state in RUNNING else state)
    waits, runs = state in WAITING, state in RUNNING
    # Its thread does not look whether somebody asked it to abort, and returns.
    later = "succeeded" if state == "doing, abort asked" else status
    match event:
        case "cancel":
            return (True, "cancelled") if waits else (False, later)
        case "abort":
            return (True, "cancelled") if waits else (True, "aborted") if state == "doing" else (runs, later)
        case "cancel and delete":
            return (True, None) if waits else (False, later)
        case "run now":
            return (state == "scheduled", later)
        case "retry" | "retry later":
            if state == "doing, abort asked":
                return True, "failed"
            if state == "doing":
                return True, "doing" if event == "retry" else "todo"
            # It is in a queue that nobody serves.
            return (True, "todo") if state == "failed" else (REFUSED, status)
        case "finish and delete":
            return (True, None) if waits or runs else (REFUSED, status)
        case "defer a duplicate":
            return (REFUSED if waits else True, later)
        case _:
            return (True, event.removeprefix("finish as ")) if waits or runs else (REFUSED, status)


def _prepare(stage: Stage, state: str) -> int:
    """Return the id of a new job in that state."""
    if state in RUNNING:
        (job_id,) = stage.defer("work", seconds=60) if state == "doing" else stage.defer("work_in_thread", seconds=5)
        stage.until(lambda: stage.count(f"id = {job_id} and status = 'doing'"), "it runs")
        if state != "doing":
            stage.query("update procrastinate_jobs set abort_requested = true where id = %s", job_id)
        return job_id
    (job_id,) = stage.defer("work", each=lambda _: {"queue": "nobody's"})
    changes = {
        "ready": "",
        "scheduled": "scheduled_at = now() + interval '1 hour', waits_for = 'time'",
        "blocked": "lock = 'held', waits_for = 'lock'",
        "absent": "status = 'cancelled'",
    }
    change = changes.get(state, f"status = '{state}', finalized_at = now(), attempts = 1, attempted_at = now()")
    if change:
        stage.query(f"update procrastinate_jobs set {change} where id = %s", job_id)
    if state == "absent":
        stage.query("delete from procrastinate_jobs where id = %s", job_id)
    return job_id


def _status(stage: Stage, job_id: int) -> str | None:
    rows = stage.query("select status::text from procrastinate_jobs where id = %s", job_id)
    return rows[0][0] if rows else None


@scenario("Cancel, abort, retry, finish, delete, run now, defer again, in every state", trials=1, in_short=True)
def events_in_states(stage: Stage) -> None:
    stage.rules = Rules(statuses=frozenset(ENDED), may_rescue=True, may_lose=True)
    worker = stage.worker(
        concurrency=100, queues=["default"], shutdown_graceful_timeout=1, abort_job_polling_interval=0.2
    )
    cases = {(event, state): _prepare(stage, state) for event in EVENTS for state in STATES}
    stage.query(
        "update procrastinate_jobs set queueing_lock = 'Q' || id where id = any(%s)",
        [job_id for (event, _), job_id in cases.items() if event == "defer a duplicate"],
    )

    async def happen(app: App) -> dict[tuple[str, str], Any]:
        answers = {}
        for (event, state), job_id in cases.items():
            try:
                answer = await EVENTS[event](app, job_id)
            except (exceptions.ConnectorException, exceptions.AlreadyEnqueued):
                answer = REFUSED
            answers[event, state] = answer if answer in {False, REFUSED} else True
        return answers

    answers = stage.app_call(happen)
    found = {case: (answers[case], _status(stage, job_id)) for case, job_id in cases.items()}
    deadline = time.monotonic() + 15
    while (wrong := {case for case in cases if found[case] != expected(*case)}) and time.monotonic() < deadline:
        found |= {case: (answers[case], _status(stage, cases[case])) for case in wrong}
    for event, state in wrong:
        stage.broken.append(f"{event}, {state}: {found[event, state]}, not {expected(event, state)}")
    stage.promise(worker.is_alive, "the worker is alive")
    (probe,) = stage.defer("work")
    stage.until(lambda: stage.count(f"id = {probe} and status = 'succeeded'"), "the worker works")
    stage.query("update procrastinate_jobs set status = 'cancelled', waits_for = null where status = 'todo'")
    # A retry that meets an abort request ends the job without counting the attempt.
    stage.query("update procrastinate_jobs set attempts = 1 where status = 'failed' and attempts = 0")
    # Many were deleted on purpose.
    stage.offered.clear()
