"""What type checkers must refuse: a line that they accept has an ignore too many, which is an error."""

from __future__ import annotations

from typing import Any

import procrastinate
from procrastinate import middleware
from procrastinate.testing import InMemoryConnector

app = procrastinate.App(connector=InMemoryConnector())


@app.task
def plain(a: int, b: str = "b") -> float:
    return a / len(b)


@app.task
async def asynchronous(a: int) -> str:
    return str(a)


@app.task(pass_context=True)
def with_context(context: procrastinate.JobContext, a: int) -> int:
    return a


def synchronous_middleware(call_next: middleware.SyncCallNext, context: procrastinate.JobContext, worker: Any) -> int:
    call_next()
    return 1


async def wrong_arguments(context: procrastinate.JobContext) -> None:
    plain.defer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain.defer(b="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain.defer(a="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain.defer(a=1, c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await plain.defer_async(a="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await asynchronous.defer_async(c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain.configure(lock="l").defer(a="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await plain.configure().defer_async(c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain.batch_defer([{"a": 1}])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain.configure().batch_defer(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_context.defer(context, a=1)  # type: ignore[misc, arg-type]  # pyright: ignore[reportCallIssue]
    with_context.defer(context=context, a=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with_context.defer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    procrastinate.builtin_tasks.remove_old_jobs.defer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_calls(context: procrastinate.JobContext) -> None:
    plain("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_context(a=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with_context(context)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _number: int = plain(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _text: str = asynchronous(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def wrong_options() -> None:
    plain.configure(qeue="q")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    plain.configure(priority="high")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    plain.configure(schedule_in={"fortnights": 1})  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    plain.configure(schedule_at="2030-01-01")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.configure_task("plain", qeue="q")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.task(qeue="q")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.task(retry="often")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    app.task("name")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.task(pass_context=True)(takes_no_context)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.task(task_middleware=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    app.periodic(cron="* * * * *")(takes_no_context)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    app.periodic("* * * * *")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.periodic(cron="* * * * *", qeue="q")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def takes_no_context(a: int) -> None:
    pass


async def wrong_workers() -> None:
    procrastinate.App()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    procrastinate.App(connector=InMemoryConnector)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    procrastinate.App(connector=InMemoryConnector(), worker_defaults={"concurency": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.run_worker(concurency=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.run_worker_async(concurrency="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.run_worker_async(worker_middleware=[synchronous_middleware])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    with app.open_async():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


class WrongStrategy(procrastinate.BaseRetryStrategy):
    def get_retry_decision(self, exception: BaseException) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


def wrong_decisions() -> None:
    procrastinate.RetryDecision(retry_in=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    procrastinate.RetryDecision(5)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    procrastinate.RetryStrategy(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    procrastinate.RetryStrategy(retry_exceptions=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    procrastinate.Job(task_name="t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
