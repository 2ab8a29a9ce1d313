"""Middleware, and the context that it receives."""

import asyncio
import functools

import pytest

from procrastinate import JobContext, exceptions, middleware
from procrastinate.job_context import AbortReason, JobResult


async def asynchronous(call_next, context, worker):
    return await call_next()


def synchronous(call_next, context, worker):
    return call_next()


class AsyncCallable:
    async def __call__(self, call_next, context, worker):
        return await call_next()


@pytest.fixture
def context(app):
    job = app.configure_task("run").job
    return JobContext(app=app, job=job, start_timestamp=0, abort_reason=lambda: None)


@pytest.mark.parametrize(
    ("each", "is_async"),
    [
        (asynchronous, True),
        (functools.partial(functools.partial(asynchronous)), True),
        (AsyncCallable(), True),
        (synchronous, False),
        (functools.partial(synchronous), False),
    ],
)
def test_colour(each, is_async):
    assert middleware.is_async_middleware(each) is is_async


def test_the_first_is_the_outermost(context):
    calls = []

    def tracing(name):
        def trace(call_next, context, worker):
            calls.append((name, worker))
            return f"{name}({call_next()})"

        return trace

    call = middleware.compose([tracing("a"), tracing("b")], lambda: "task", context, "worker")
    assert call() == "a(b(task))"
    assert calls == [("a", "worker"), ("b", "worker")]


def test_async_ones(context):
    async def run():
        return 1

    assert asyncio.run(middleware.compose([asynchronous, AsyncCallable()], run, context, None)()) == 1


def test_none_at_all(context):
    assert middleware.compose([], len, context, None) is len


def test_calling_twice_runs_twice(context):
    runs = []

    def twice(call_next, context, worker):
        call_next()
        return call_next()

    assert middleware.compose([twice], lambda: runs.append(1) or len(runs), context, None)() == 2


@pytest.mark.parametrize(("each", "must_be_async"), [(asynchronous, False), (synchronous, True)])
def test_wrong_colour(each, must_be_async):
    with pytest.raises(exceptions.MiddlewareKindMismatch, match="the worker needs"):
        middleware.check_middleware(each, owner="the worker", must_be_async=must_be_async)
    middleware.check_middleware(each, owner="the worker", must_be_async=None)


def test_context(app, context):
    task = app.task(name="run")(lambda: None)
    assert context.task is task
    assert context.queues_display == "all queues"
    assert context.evolve(worker_queues=["a", "b"]).queues_display == "queues a, b"
    assert context.should_abort() is False
    assert context.evolve(abort_reason=lambda: AbortReason.SHUTDOWN).should_abort() is True


def test_context_of_an_unknown_task(context):
    with pytest.raises(KeyError):
        context.task  # noqa: B018  the access is the point


def test_result():
    running = JobResult(start_timestamp=10)
    assert running.duration(12) == 2
    assert running.as_dict().keys() == {"start_timestamp", "duration"}
    assert running.as_dict()["duration"] > 1_000_000
    ended = JobResult(start_timestamp=10, end_timestamp=11, result="r")
    assert ended.as_dict() == {"start_timestamp": 10, "duration": 1, "end_timestamp": 11, "result": "r"}
