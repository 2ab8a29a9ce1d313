"""Tasks: names, settings, and the check of arguments."""

import datetime
import functools
import sys

import pytest

from procrastinate import Blueprint, RetryStrategy, exceptions, tasks
from procrastinate.testing import InMemoryConnector


def sample(a, b=2, *, c=3):
    return a, b, c


class CountingMiddleware:
    def __call__(self, call_next, context, worker):
        return call_next()


async def async_middleware(call_next, context, worker):
    return await call_next()


# Names


def test_name_is_module_and_function(app):
    assert app.task(sample).name == f"{__name__}.sample"


def test_nested_functions_are_named_without_their_surroundings(app):
    def inner():
        pass

    assert app.task(inner).name == f"{__name__}.inner"


def test_function_without_name_needs_one(app):
    with pytest.raises(exceptions.FunctionPathError, match="name="):
        app.task(functools.partial(sample, b=1))
    assert app.task(name="given")(functools.partial(sample, b=1)).name == "given"


@pytest.mark.parametrize(
    ("file", "name"), [("a/b.py", "a.b.main"), ("/a/b.py", "__main__.main"), (None, "__main__.main")]
)
def test_name_in_the_main_module(app, monkeypatch, file, name):
    def main():
        pass

    main.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "__file__", file, raising=False)
    assert app.task(main).name == name


def test_task_looks_like_its_function(app):
    sample.queue = "not a setting"
    try:
        task = app.task(queue="q")(sample)
    finally:
        del sample.queue
    assert (task.__name__, task.__module__, task.__wrapped__, task.queue) == ("sample", __name__, sample, "q")
    assert repr(task) == f"<Task {__name__}.sample>"


@pytest.mark.parametrize("options", [{"name": "n" * 129}, {"aliases": ["n" * 129]}, {"queue": "n" * 129}])
def test_names_that_are_too_long(app, options):
    with pytest.raises(ValueError, match="128"):
        app.task(**options)(sample)


@pytest.mark.parametrize("priority", [2**31, -(2**31) - 1])
def test_priority_beyond_32_bits(app, priority):
    with pytest.raises(ValueError, match="2147483647"):
        app.task(priority=priority)(sample)
    with pytest.raises(ValueError, match="2147483647"):
        app.task(sample).configure(priority=priority)


# Calling


def test_call_calls_the_function(app):
    assert app.task(sample)(1, c=4) == (1, 2, 4)


@pytest.mark.parametrize("retry", [3, RetryStrategy(max_attempts=3)])
def test_retry_is_the_strategy(app, retry):
    task = app.task(retry=retry)(sample)
    assert task.retry is task.retry_strategy
    assert task.retry == RetryStrategy(max_attempts=3)


def test_is_async(app):
    async def run(a):
        pass

    assert app.task(name="1")(run).is_async
    assert app.task(name="2")(functools.partial(run, 1)).is_async
    assert not app.task(name="3")(sample).is_async


def test_middleware_is_checked(app):
    assert app.task(task_middleware=[CountingMiddleware()])(sample).task_middleware
    with pytest.raises(TypeError, match="not callable"):
        app.task(name="x", task_middleware=["mail"])(sample)
    with pytest.raises(exceptions.MiddlewareKindMismatch):
        app.task(name="y", task_middleware=[async_middleware])(sample)


# Configuring


def test_defaults_apply_where_nothing_or_none_is_said(app):
    task = app.task(queue="q", priority=1, lock="l", queueing_lock="ql")(sample)
    job = task.configure(lock=None, priority=5).make_new_job(a=1)
    assert (job.queue, job.priority, job.lock, job.queueing_lock) == ("q", 5, "l", "ql")
    assert (job.task_name, job.task_kwargs) == (task.name, {"a": 1})


@pytest.mark.parametrize("value", ["mail", None])
def test_unknown_option_is_named_with_the_one_that_was_meant(app, value):
    with pytest.raises(TypeError, match=r"'qeue'.*'queue'"):
        app.task(sample).configure(qeue=value)
    with pytest.raises(TypeError, match=r"'qeue'.*'queue'"):
        app.configure_task("anything", qeue=value)


@pytest.mark.parametrize("schedule_in", [{}, {"seconds": 1}])
def test_only_one_time(app, schedule_in):
    with pytest.raises(ValueError, match="Cannot set both schedule_at and schedule_in"):
        app.configure_task("t", schedule_at=datetime.datetime.now(tz=datetime.UTC), schedule_in=schedule_in)


def test_naive_time(app):
    with pytest.raises(ValueError, match="Timezone aware datetime is required"):
        app.configure_task("t", schedule_at=datetime.datetime(2030, 1, 1))  # noqa: DTZ001  that is the point


def test_schedule_in(app):
    before = datetime.datetime.now(tz=datetime.UTC)
    scheduled_at = app.configure_task("t", schedule_in={"hours": 1}).job.scheduled_at
    assert datetime.timedelta(0) <= scheduled_at - before - datetime.timedelta(hours=1) < datetime.timedelta(minutes=1)
    assert app.configure_task("t", schedule_in={"days": 10**8}).job.scheduled_at.year == 9999
    with pytest.raises(TypeError):
        app.configure_task("t", schedule_in={"fortnights": 1})


def test_falsy_settings_are_the_defaults(app):
    job = tasks.configure_task(
        name="t", job_manager=app.job_manager, queue="", priority=None, task_kwargs=None
    ).make_new_job()
    assert (job.queue, job.priority, job.task_kwargs) == ("default", 0, {})


def test_task_of_a_lonely_blueprint():
    task = Blueprint().task(sample)
    assert task(1) == (1, 2, 3)
    with pytest.raises(exceptions.UnboundTaskError):
        task.defer(a=1)


# Arguments


@pytest.mark.parametrize("arguments", [{"a": 1}, {"a": 1, "b": 2, "c": 3}])
def test_arguments_that_fit(app, rows, arguments):
    assert app.task(sample).defer(**arguments) == 1
    assert rows[1]["args"] == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": 1, "d": 2}, "does not take argument 'd'"),
        ({"a": 1, "a_": 1}, "did you mean 'a'"),
        ({}, "missing a required argument: 'a'"),
    ],
)
def test_arguments_that_do_not_fit(app, rows, arguments, message):
    task = app.task(sample)
    with pytest.raises(TypeError, match=message):
        task.defer(**arguments)
    with pytest.raises(TypeError, match=message):
        task.batch_defer({"a": 1}, arguments)
    with pytest.raises(TypeError, match=message):
        app.configure_task(task.name, task_kwargs=arguments).defer()
    assert not rows


def test_configured_and_given_arguments_are_checked_together(app, rows):
    app.task(sample).configure(task_kwargs={"a": 1, "b": 1}).defer(b=2)
    assert rows[1]["args"] == {"a": 1, "b": 2}


def test_positional_arguments_are_refused(app, rows):
    with pytest.raises(TypeError, match="by name"):
        app.task(sample).defer(1)
    assert not rows


def test_context_is_no_argument_of_the_job(app, rows):
    task = app.task(name="t", pass_context=True)(lambda context, a: None)
    task.defer(a=1)
    with pytest.raises(TypeError):
        task.defer(context=1, a=1)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        task.defer()
    assert len(rows) == 1


def test_any_keyword(app):
    assert app.task(name="t")(lambda **anything: None).defer(x=1) == 1


def test_decorated_function_takes_what_its_wrapper_takes(app):
    @functools.wraps(sample)
    def wrapper(**arguments):
        return sample(1, **arguments)

    assert app.task(wrapper).defer(b=1) == 1


def test_function_without_signature(app):
    assert app.task(name="t")(dict).defer(x=1) == 1


def test_check_can_be_switched_off(app):
    assert app.task(check_arguments=False)(sample).defer(x=1) == 1


def test_arguments_that_are_no_json(app):
    with pytest.raises(TypeError):
        app.task(sample).defer(a=object())


def test_batch(app, rows):
    task = app.task(sample)
    assert task.batch_defer({"a": 1}, {"a": 2}) == [1, 2]
    assert task.batch_defer() == []
    assert [row["args"]["a"] for row in rows.values()] == [1, 2]


def test_queueing_lock_within_a_batch(app, rows):
    with pytest.raises(exceptions.AlreadyEnqueued, match="z"):
        app.task(sample).configure(queueing_lock="z").batch_defer({"a": 1}, {"a": 2})
    assert not rows


def test_copy_belongs_elsewhere(app):
    task = app.task(aliases=["other"])(sample)
    home = Blueprint()
    twin = task.copy_for(home)
    assert (twin.blueprint, task.blueprint) == (home, app)
    assert twin.aliases == task.aliases
    assert twin.aliases is not task.aliases


def test_connector_is_looked_up_when_deferring(app):
    task = app.task(sample)
    other = InMemoryConnector()
    with app.replace_connector(other):
        task.defer(a=1)
    assert (len(other.jobs), len(app.connector.jobs)) == (1, 0)
