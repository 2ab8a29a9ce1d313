"""Tasks: names, settings, and the check of arguments."""

import asyncio
import copy
import datetime
import functools
import inspect
import pickle
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
    with pytest.raises(TypeError, match=r"^Task middleware 'mail' of task x is not callable\.$"):
        app.task(name="x", task_middleware=["mail"])(sample)
    with pytest.raises(exceptions.MiddlewareKindMismatch):
        app.task(name="y", task_middleware=[async_middleware])(sample)


def test_async_task_gives_its_coroutine(app):
    @app.task
    async def run(a):
        return a

    assert asyncio.run(run(5)) == 5


# Declaring


def test_options_that_are_none_are_the_defaults(app):
    options = dict.fromkeys(tasks.TaskOptions.__annotations__)
    task = app.task(sample, pass_context=False, **{**options, "check_arguments": True})
    assert (task.name, task.aliases, task.queue, task.priority) == (f"{__name__}.sample", [], "default", 0)
    assert (task.retry_strategy, task.lock, task.queueing_lock, task.task_middleware) == (None, None, None, [])


def test_attributes(app):
    strategy = RetryStrategy(max_attempts=1)
    task = tasks.Task(
        sample,
        blueprint=app,
        name="n",
        aliases=["a"],
        retry=strategy,
        pass_context=True,
        queue="q",
        priority=1,
        lock="l",
        queueing_lock="ql",
        task_middleware=[CountingMiddleware],
    )
    expected = {
        "func": sample,
        "blueprint": app,
        "name": "n",
        "aliases": ["a"],
        "retry_strategy": strategy,
        "pass_context": True,
        "queue": "q",
        "priority": 1,
        "lock": "l",
        "queueing_lock": "ql",
        "task_middleware": [CountingMiddleware],
        "full_path": f"{__name__}.sample",
    }
    assert {name: getattr(task, name) for name in expected} == expected
    task.add_namespace("ns")
    assert (task.name, task.aliases) == ("ns:n", ["ns:a"])


def test_queue_is_required():
    with pytest.raises(TypeError, match="queue"):
        tasks.Task(sample, blueprint=Blueprint())


@pytest.mark.parametrize("value", ["name", 5])
def test_task_of_what_is_no_function(app, value):
    with pytest.raises(TypeError, match=r"write @app\.task\(name="):
        app.task(value)


def test_aliases_are_several(app):
    with pytest.raises(TypeError, match=r"aliases=\['old'\]"):
        app.task(aliases="old")(sample)


@pytest.mark.parametrize("options", [{"name": 5}, {"aliases": [5]}])
def test_names_that_are_no_text(app, options):
    with pytest.raises(TypeError, match="task name is a text"):
        app.task(**options)(sample)


def test_names_of_lambdas(app):
    assert app.task(lambda: None).name == f"{__name__}.<lambda>"


# Copies


def pickled_task():
    pass


def test_tasks_are_pickled_as_functions_are(monkeypatch, app):
    task = app.task(pickled_task)
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(task)  # its name leads to the bare function
    monkeypatch.setattr(sys.modules[__name__], "pickled_task", task)
    assert pickle.loads(pickle.dumps(task)) is task
    assert copy.deepcopy({"task": task})["task"] is task


def test_a_copy_is_another_task(app):
    task = app.task(sample)
    twin = copy.copy(task)
    twin.queue = "other"
    assert (task.queue, twin.queue, twin.func) == ("default", "other", sample)
    assert type(twin) is tasks.Task


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


def test_empty_queue_is_the_default_queue(app):
    assert app.task(queue="q")(sample).configure(queue="").job.queue == "default"


def test_time_from_now_that_is_now(app):
    before = datetime.datetime.now(tz=datetime.UTC)
    assert before <= app.configure_task("t", schedule_in={}).job.scheduled_at <= datetime.datetime.now(tz=datetime.UTC)


def test_past_times_are_allowed(app):
    assert app.configure_task("t", schedule_in={"days": -1}).defer() == 1
    assert app.configure_task("t", schedule_at=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).defer() == 2


def test_connection_is_kept(app):
    connection = object()
    assert app.task(sample).configure(connection=connection).connection is connection
    assert app.configure_task("elsewhere", connection=connection).connection is connection


def test_configured_arguments_are_not_changed(app):
    arguments = {"a": 1}
    deferrer = app.task(sample).configure(task_kwargs=arguments)
    deferrer.defer(b=2)
    arguments["c"] = 3
    assert (arguments, deferrer.job.task_kwargs) == ({"a": 1, "c": 3}, {"a": 1})


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
    task = app.task(name="t", check_arguments=False)(sample)
    assert [task.defer(x=1), task.configure(lock="l").defer(), *task.batch_defer({"y": 1})] == [1, 2, 3]
    assert app.configure_task("t").defer() == 4


def test_arguments_given_in_parts(app):
    deferrer = app.task(sample).configure(task_kwargs={"b": 1})
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        deferrer.defer(c=1)
    assert deferrer.batch_defer({"a": 1}, {"a": 2, "b": 3}) == [1, 2]


def test_positional_only_parameters(app):
    def needs(a, /, b):
        pass

    def offers(a=1, /, *, b=2):
        pass

    with pytest.raises(TypeError, match=r"positional.only"):
        app.task(needs).defer(a=1, b=2)
    assert app.task(offers).defer(b=1) == 1
    with pytest.raises(TypeError, match=r"positional.only"):
        app.task(name="t")(offers).defer(a=1)


def test_arguments_of_a_partial_function(app):
    task = app.task(name="t")(functools.partial(sample, b=5))
    assert task.batch_defer({"a": 1}, {"a": 1, "b": 6}) == [1, 2]
    task = app.task(name="u")(functools.partial(sample, 1))
    assert task.defer(b=1) == 3
    with pytest.raises(TypeError, match="'a'"):
        task.defer(a=1)


def test_arguments_of_callable_objects(app):
    class Greeting:
        def __call__(self, name):
            return name

        def method(self, name):
            return name

    for task in (app.task(name="object")(Greeting()), app.task(Greeting().method), app.task(Greeting)):
        arguments = {} if task.func is Greeting else {"name": "x"}
        assert task.defer(**arguments)
        with pytest.raises(TypeError):
            task.defer(self=1)


def test_context_of_any_kind(app):
    def variadic(*arguments, a):
        pass

    def positional(context, /, **rest):
        pass

    assert app.task(pass_context=True)(variadic).defer(a=1) == 1
    assert app.task(pass_context=True)(positional).defer(context=1) == 2


def test_decorator_that_adds_an_argument(app):
    def connected(function):
        @functools.wraps(function)
        def wrapper(*arguments, **named):
            return function(*arguments, connection=None, **named)

        return wrapper

    @app.task
    @connected
    def run(a, connection):
        pass

    assert run.defer(a=1) == 1
    # What the wrapper takes cannot be told, so nothing is refused.
    assert run.defer(b=1) == 2


def test_signature_that_a_decorator_states(app):
    def stated(*arguments, **named):
        pass

    stated.__signature__ = inspect.signature(sample)
    # Such decorators often add or take away arguments and state those of the function inside all the same.
    assert app.task(stated).defer(d=1) == 1
    assert app.task(name="partial")(functools.partial(stated, 1)).defer(d=1) == 2


def test_object_that_stands_for_a_function(app):
    class Injecting:
        """As those of the package wrapt: it passes for the function inside."""

        __wrapped__ = staticmethod(sample)
        __name__ = "sample"
        __code__ = sample.__code__
        __defaults__ = sample.__defaults__
        __kwdefaults__ = sample.__kwdefaults__
        __annotations__ = sample.__annotations__

        @property
        def __class__(self):
            return type(sample)

        def __call__(self, **named):
            return sample(1, **named)

    task = app.task(name="t")(Injecting())
    assert task(b=5) == (1, 5, 3)
    assert task.defer(b=5) == 1


def test_cached_function(app):
    assert app.task(name="t")(functools.cache(sample)).defer(d=1) == 1


def test_task_of_a_task(app):
    inner = app.task(name="inner")(sample)
    outer = app.task(name="outer", queue="q")(inner)
    assert outer(1) == (1, 2, 3)
    assert outer.defer(a=1) == 1


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
