"""What users write, and type checkers must accept; running this file runs it all, in memory."""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, assert_type

import procrastinate
from procrastinate import exceptions, jobs, middleware, observers, tasks, types, utils
from procrastinate.app import AwaitableContext, WorkerOptions
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker

P = ParamSpec("P")
T = TypeVar("T")

app = procrastinate.App(
    connector=InMemoryConnector(),
    import_paths=["collections"],
    worker_defaults={"concurrency": 2, "queues": {"default", "mail"}, "delete_jobs": "successful"},
    periodic_defaults={"max_delay": 60},
)
blueprint = procrastinate.Blueprint()


# Declaring


@app.task
def bare(a: int, b: str = "b") -> float:
    return a / len(b)


@app.task(name="called", queue="mail", retry=3, priority=5, lock="l", aliases=["old"])
def called(a: int, /, *words: str, b: bool = False, **rest: int) -> None:
    pass


@blueprint.task(queueing_lock="q", retry=procrastinate.RetryStrategy(wait=1, retry_exceptions=[OSError]))
async def asynchronous(a: int) -> str:
    await asyncio.sleep(0)
    return str(a)


@app.task(pass_context=True, check_arguments=False, log_args=False)
def with_context(context: procrastinate.JobContext, a: int, *, b: int = 0) -> int:
    assert_type(context.should_abort(), bool)
    assert_type(context.task, tasks.Task[..., Any])
    return a + b


@blueprint.task(pass_context=True)
async def async_with_context(context: procrastinate.JobContext, a: int) -> int:
    return a


@app.periodic(cron="0 * * * *")
@app.periodic(cron="30 * * * *", periodic_id="half", queue="low", task_kwargs={"word": "x"})
@app.task(name="tick")
def tick(timestamp: int, word: str = "") -> None:
    pass


assert_type(tick(1, word="a"), None)


def existing(a: int) -> int:
    return a


made = app.task(existing, name="made")
made_with_options = app.task(name="made with options")(existing)
partial = app.task(name="partial")(functools.partial(existing, 1))
app.add_task_alias(made, "alias")
app.add_tasks_from(blueprint)
app.periodic(cron="* * * * *", periodic_id="made")(tick)


# Calling: as if it were no task


assert_type(bare(1, "b"), float)
assert_type(bare(1), float)
called(1, "a", "b", b=True, c=1)
assert_type(made(1), int)


async def call(context: procrastinate.JobContext) -> None:
    coroutine: Coroutine[Any, Any, str] = asynchronous(1)
    assert_type(await coroutine, str)
    assert_type(await asynchronous(a=1), str)
    assert_type(with_context(context, 1, b=2), int)
    assert_type(await async_with_context(context, a=1), int)
    await procrastinate.builtin_tasks.remove_old_jobs(context, max_hours=1, remove_failed=True)


# Deferring


async def defer(connection: object) -> None:
    assert_type(bare.defer(a=1, b="b"), int)
    assert_type(await bare.defer_async(a=1), int)
    assert_type(await asynchronous.defer_async(a=1), int)
    assert_type(with_context.defer(a=1, b=2), int)
    assert_type(await async_with_context.defer_async(a=1), int)
    arguments: list[dict[str, int]] = [{"a": 1}, {"a": 2}]
    assert_type(bare.batch_defer({"a": 1, "b": "b"}, *arguments), list[int])
    assert_type(await bare.batch_defer_async(*arguments), list[int])

    assert_type(bare.configure(lock="l", schedule_in={"minutes": 1}).defer(a=1), int)
    assert_type(await bare.configure(priority=1, connection=connection, task_kwargs=None).defer_async(a=1), int)
    assert_type(bare.configure().batch_defer(*arguments), list[int])
    # With arguments given before, the rest is not checked.
    assert_type(bare.configure(task_kwargs={"a": 1}).defer(), int)
    options: tasks.ConfigureTaskOptions = {"queue": "q", "task_kwargs": {"b": "b"}}
    assert_type(bare.configure(**options).defer(a=1), int)
    unknown_options: dict[str, Any] = {"queue": "q"}
    assert_type(await bare.configure(**unknown_options).defer_async(a=1), int)

    elsewhere = app.configure_task("elsewhere", queue="q", schedule_at=datetime.datetime.now(tz=datetime.UTC))
    assert_type(elsewhere.defer(anything=1), int)
    assert_type(await elsewhere.defer_async(), int)
    assert_type(await defer_pattern(bare.configure(lock="m"), a=1), int)
    assert_type(await defer_any(made), int)
    await procrastinate.builtin_tasks.remove_old_jobs.defer_async(max_hours=72)
    await procrastinate.builtin_tasks.remove_old_jobs.configure(queueing_lock="clean").defer_async(max_hours=1)


async def defer_pattern(deferrer: jobs.JobDeferrer[P], *args: P.args, **kwargs: P.kwargs) -> int:
    return await deferrer.defer_async(*args, **kwargs)


async def defer_any(task: tasks.Task[..., Any]) -> int:
    deferrer: jobs.JobDeferrer = task.configure()
    assert_type(deferrer.make_new_job(a=1), procrastinate.Job)
    return await deferrer.defer_async(a=1)


def bare_annotation(task: tasks.Task) -> str:
    return task.name


# Middleware


def timed(call_next: middleware.SyncCallNext, context: procrastinate.JobContext, worker: Worker) -> Any:
    return call_next()


async def logged(call_next: middleware.AsyncCallNext, context: procrastinate.JobContext, worker: Worker) -> Any:
    worker.stop()
    return await call_next()


AROUND = [timed]
wrapped = app.task(name="wrapped", task_middleware=AROUND)(existing)


@app.task(name="async wrapped", task_middleware=[logged])
async def async_wrapped() -> None:
    pass


# Retrying


class Patient(procrastinate.BaseRetryStrategy):
    def get_retry_decision(
        self, *, exception: BaseException, job: procrastinate.Job
    ) -> procrastinate.RetryDecision | None:
        if isinstance(exception, exceptions.ConnectorException):
            return procrastinate.RetryDecision(should_retry=False)
        return procrastinate.RetryDecision(retry_in={"seconds": job.attempts}, priority=1, queue="slow", lock="l")


@app.task(name="patient", retry=Patient())
def patient() -> None:
    pass


# Opening, working


def open_sync() -> None:
    with app.open() as opened:
        assert_type(opened, procrastinate.App)
        assert_type(app.check_connection(), bool)
        assert_type(app.job_manager.list_jobs(queue="q"), list[procrastinate.Job])
    with app.replace_connector(InMemoryConnector()) as replaced:
        assert_type(replaced, procrastinate.App)


async def work() -> None:
    assert_type(app.open_async(), AwaitableContext[procrastinate.App])
    assert_type(await app.open_async(), procrastinate.App)
    async with app.open_async() as opened:
        assert_type(opened, procrastinate.App)
        options: WorkerOptions = {"wait": False, "install_signal_handlers": False, "shutdown_graceful_timeout": 10}
        await opened.run_worker_async(**options)
        await opened.run_worker_async(
            queues=["mail"],
            name="w",
            concurrency=1,
            wait=False,
            install_signal_handlers=False,
            delete_jobs=jobs.DeleteJobCondition.NEVER,
            additional_context={"a": object()},
            task_middleware=[timed, logged],
            worker_middleware=[logged],
            observers=[watch, print],
            health_port=0,
            health_host="127.0.0.1",
        )


def watch(event: observers.Event) -> None:
    match event:
        case observers.JobEnded():
            assert_type(event.job, procrastinate.Job)
            assert_type(event.status, jobs.Status)
        case observers.ServiceFailed() | observers.ServiceRecovered():
            assert_type(event.service, str)
        case _:
            pass


class SubApp(procrastinate.App):
    pass


sub_app = SubApp(connector=InMemoryConnector())
assert_type(sub_app.open(), SubApp)
assert_type(sub_app.with_connector(InMemoryConnector()), SubApp)


# Small things


def decorated(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return wrapper


@app.task(name="decorated")
@decorated
def inside(a: int) -> str:
    return str(a)


assert_type(inside(1), str)
assert_type(utils.utcnow(), datetime.datetime)
assert_type(utils.parse_datetime("2030-01-01"), datetime.datetime)
assert_type(utils.load_from_path("procrastinate.jobs.Job", type), type)
row = types.JobToDefer("q", "t", 0, None, None, {"a": [1, {"b": None}]}, None)
mapping: Mapping[str, types.JSONValue] = {"a": 1}
several: Sequence[procrastinate.Job] = [procrastinate.Job(queue="q", lock=None, queueing_lock=None, task_name="made")]


async def main() -> None:
    context = procrastinate.JobContext(app=app, job=several[0], start_timestamp=0, abort_reason=lambda: None)
    await call(context)
    await defer(None)
    await work()


if __name__ == "__main__":
    open_sync()
    asyncio.run(main())
