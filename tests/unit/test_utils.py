"""Small functions for users: `procrastinate.utils`, `procrastinate.metadata`, and modules by their names."""

import asyncio
import contextlib
import contextvars
import datetime
import functools
import logging
import sys
import threading

import pytest

import procrastinate
from procrastinate import app as app_module
from procrastinate import exceptions, importing, job_context, metadata, moved, tasks, types, utils

UTC = datetime.UTC


def test_names_are_gathered():
    assert utils.AwaitableContext is app_module.AwaitableContext
    assert utils.MovedElsewhere is moved.MovedElsewhere
    assert utils.add_namespace is tasks.add_namespace
    assert utils.get_full_path is tasks.get_full_path
    assert utils.queues_display is job_context.queues_display
    assert utils.datetime_from_timedelta_params is types.time_from_now
    for name in ("load_from_path", "import_all", "caller_module_name"):
        assert getattr(utils, name) is getattr(importing, name)
    for name in utils.__all__:
        assert getattr(utils, name).__doc__, name


# Times


def test_limits_of_time():
    assert utils.utcnow().utcoffset() == datetime.timedelta(0)
    assert abs(utils.utcnow() - datetime.datetime.now(tz=UTC)) < datetime.timedelta(seconds=10)
    assert (utils.utcmax().year, utils.utcmax().utcoffset()) == (9999, datetime.timedelta(0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-05", "2023-01-05T00:00:00+00:00"),
        ("2023-01-05T15:00", "2023-01-05T15:00:00+00:00"),
        (" 2023-01-05 15:00:00.5Z ", "2023-01-05T15:00:00.500000+00:00"),
        ("2023-01-05T15:00:00+03:00", "2023-01-05T15:00:00+03:00"),
        ("Jan 5 2023 3pm", "2023-01-05T15:00:00+00:00"),
        ("Jan 5 2023 3pm +0300", "2023-01-05T15:00:00+03:00"),
        ("5 January 2023 15:00 UTC", "2023-01-05T15:00:00+00:00"),
    ],
)
def test_parsing_times(text, expected):
    assert utils.parse_datetime(text).isoformat() == expected


@pytest.mark.parametrize("text", ["", "soon", "2023-13-01", "2023-01-05 15:00 Mars", "9" * 50])
def test_parsing_what_is_no_time(text):
    with pytest.raises(ValueError):  # noqa: PT011  the text is dateutil's
        utils.parse_datetime(text)


def test_parsing_without_dateutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "dateutil.parser", None)
    assert utils.parse_datetime("2023-01-05").day == 5
    with pytest.raises(ValueError, match="ISO format"):
        utils.parse_datetime("Jan 5 2023")


def test_times_from_now():
    in_an_hour = utils.datetime_from_timedelta_params({"minutes": 60})
    assert abs(in_an_hour - utils.utcnow() - datetime.timedelta(hours=1)) < datetime.timedelta(seconds=10)
    assert utils.datetime_from_timedelta_params({"weeks": 10**9}) == utils.utcmax()


# Names


def test_namespaces():
    assert utils.add_namespace("run", "ns") == "ns:run"
    assert utils.add_namespace("run", "") == "run"


@pytest.mark.parametrize(
    ("queues", "text"), [(None, "all queues"), ([], "all queues"), (["a"], "queues a"), (("a", "b"), "queues a, b")]
)
def test_queues_for_people(queues, text):
    assert utils.queues_display(queues) == text


def test_full_path():
    assert utils.get_full_path(test_full_path) == f"{__name__}.test_full_path"
    assert utils.get_full_path(dict) == "builtins.dict"
    with pytest.raises(exceptions.FunctionPathError):
        utils.get_full_path(functools.partial(int))


def test_caller():
    assert utils.caller_module_name() == __name__
    assert utils.caller_module_name(prefix=__name__) != __name__
    namespace = {"__name__": "somebody", "utils": utils}
    exec("name = utils.caller_module_name()", namespace)
    assert namespace["name"] == "somebody"


def test_caller_without_a_name():
    namespace = {"utils": utils, "__name__": ""}
    with pytest.raises(exceptions.CallerModuleUnknown):
        exec("utils.caller_module_name()", namespace)


# Modules


def test_loading_from_a_path():
    assert utils.load_from_path("procrastinate.jobs.Job") is procrastinate.Job
    assert utils.load_from_path("procrastinate.jobs.Job", type) is procrastinate.Job
    with pytest.raises(ImportError, match=r"Object at procrastinate\.jobs\.Job is not of type int but type"):
        utils.load_from_path("procrastinate.jobs.Job", int)


@pytest.mark.parametrize("path", ["", "app", ".app", "no_such_module.app", "procrastinate.jobs.nothing"])
def test_paths_that_lead_nowhere(path):
    with pytest.raises(exceptions.LoadFromPathError):
        utils.load_from_path(path)


def test_importing_all(caplog):
    caplog.set_level(logging.DEBUG, "procrastinate")
    utils.import_all([])
    utils.import_all(["colorsys", "json"])
    assert [(record.action, record.module_name) for record in caplog.records] == [
        ("import_module", "colorsys"),
        ("import_module", "json"),
    ]
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        utils.import_all(["no_such_module"])


def test_modules_that_may_be_missing():
    json, missing = utils.import_or_wrapper("json", "no_such_module")
    assert json.loads("1") == 1
    with pytest.raises(ImportError, match="no_such_module"):
        missing.anything  # noqa: B018  the access is the point


def test_metadata():
    found = metadata.extract_metadata()
    assert found.keys() == {"author", "email", "license", "url", "version"}
    assert all(isinstance(value, str) for value in found.values())
    assert found["license"] == procrastinate.__license__ == "MIT"
    assert found["author"] == procrastinate.__author__
    assert found["version"][0].isdigit()


# Errors


def test_causes():
    first, second, third = ValueError(1), ValueError(2), ValueError(3)
    first.__cause__ = second
    second.__context__ = third
    assert list(utils.causes(first)) == [first, second, third]
    assert list(utils.causes(None)) == []


# Sync and async


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


def test_async_to_sync():
    assert utils.async_to_sync(double, number=2) == 4


async def test_async_to_sync_on_the_loops_own_thread():
    with pytest.raises(RuntimeError, match="await the function instead"):
        utils.async_to_sync(double, 2)
    assert await utils.sync_to_async(utils.async_to_sync, double, 2) == 4


async def test_sync_to_async():
    variable = contextvars.ContextVar("variable")
    variable.set("here")

    def look(suffix):
        return variable.get() + suffix, threading.current_thread()

    text, thread = await utils.sync_to_async(look, suffix="!")
    assert text == "here!"
    assert thread is not threading.current_thread()


async def test_awaitable_context():
    calls = []

    async def open_it():
        calls.append("open")

    async def close_it():
        calls.append("close")

    context = utils.AwaitableContext(open_it, close_it, "value")
    assert calls == []
    assert await context == "value"
    assert calls == ["open"]
    with contextlib.suppress(ZeroDivisionError):
        async with utils.AwaitableContext(open_coro=open_it, close_coro=close_it, return_value=1) as value:
            assert value == 1
            raise ZeroDivisionError
    assert calls == ["open", "open", "close"]


async def numbers(count, gate=None):
    for number in range(count):
        yield number
    if gate is not None:
        await gate.wait()


async def test_generator_with_timeout():
    assert [item async for item in utils.gen_with_timeout(numbers(3), 30, raise_timeout=True)] == [0, 1, 2]
    silent = numbers(2, asyncio.Event())
    assert [item async for item in utils.gen_with_timeout(silent, 0.01, raise_timeout=False)] == [0, 1]
    silent = numbers(2, asyncio.Event())
    with pytest.raises(TimeoutError):
        [item async for item in utils.gen_with_timeout(silent, 0.01, raise_timeout=True)]


async def test_waiting_for_any():
    gate, ends = asyncio.Event(), []

    async def forever():
        try:
            await gate.wait()
        finally:
            ends.append("cancelled")

    await utils.wait_any(forever(), double(1))
    assert ends == ["cancelled"]

    async def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await utils.wait_any(forever(), fail())


async def test_cancelling(caplog):
    gate = asyncio.Event()

    async def fail_at_the_end():
        try:
            await gate.wait()
        finally:
            raise ZeroDivisionError

    several = [asyncio.create_task(gate.wait()), asyncio.create_task(fail_at_the_end(), name="side")]
    await asyncio.sleep(0)
    await utils.cancel_and_capture_errors(several)
    assert several[0].cancelled()
    (record,) = caplog.records
    assert (record.action, record.exc_info[0]) == ("side_error", ZeroDivisionError)


async def test_context_around_coroutine_functions():
    calls = []

    @utils.async_context_decorator
    async def around():
        calls.append("before")
        try:
            yield
        finally:
            calls.append("after")

    @around
    async def run(number):
        calls.append(number)
        return number

    assert await run(5) == 5
    assert await run(number=6) == 6
    assert calls == ["before", 5, "after", "before", 6, "after"]
    assert run.__name__ == "run"


def test_moved():
    stand_in = utils.MovedElsewhere("Thing", "procrastinate.contrib.things")
    for use in (lambda: stand_in(1), lambda: stand_in.anything):
        with pytest.raises(exceptions.MovedElsewhere) as raised:
            use()
        assert str(raised.value) == "procrastinate.Thing has been moved to procrastinate.contrib.things.Thing"
