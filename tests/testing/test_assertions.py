"""`assert_deferred` and `deferred_jobs`: what they find, and what they say when they find something else."""

from __future__ import annotations

import datetime
import json

import pytest

import procrastinate
from procrastinate import exceptions, testing
from procrastinate.testing import assert_deferred, assert_deferred_async, deferred_jobs, deferred_jobs_async

NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture
def app():
    return procrastinate.App(connector=testing.InMemoryConnector())


@pytest.fixture
def send(app):
    @app.task(name="send", aliases=["mail"])
    def send(to="", **more):
        pass

    return send


def test_arguments_are_among_the_jobs(app, send):
    send.defer(to="ann", copies=[1, 2])
    assert [job.id for job in assert_deferred(app, send)] == [1]
    assert_deferred(app, send, to="ann")
    assert_deferred(app, send, copies=(1, 2))
    assert_deferred(app, send, {"to": "ann"}, copies=[1, pytest.approx(2)])
    assert_deferred(app, send, count=0, to="bob")
    assert_deferred(app, send, count=0, nobody=None)


def test_arguments_called_like_parameters(app, send):
    send.defer(count=3, options=4)
    assert_deferred(app, send, {"count": 3, "options": 4})
    assert_deferred(app, send, {"count": 4}, count=0)


@pytest.mark.parametrize("name", ["send", "mail", None])
def test_names(app, send, name):
    send.defer(to="ann")
    assert_deferred(app, name, to="ann")


def test_places(app, send):
    send.defer()
    for where in (app, app.connector, app.job_manager):
        assert_deferred(where, send)
        assert len(deferred_jobs(where, "send")) == 1


def test_counts(app, send):
    send.batch_defer({"to": "ann"}, {"to": "bob"}, {"to": "ann"})
    assert [job.id for job in assert_deferred(app, send, count=2, to="ann")] == [1, 3]
    assert len(assert_deferred(app, send, count=None)) == 3
    with pytest.raises(AssertionError, match=r"Expected 1 deferred job of send\(to='ann'\), found 2\."):
        assert_deferred(app, send, to="ann")
    with pytest.raises(AssertionError, match=r"Expected at least 1 deferred job of send\(to='eve'\), found none\."):
        assert_deferred(app, send, to="eve", count=None)
    with pytest.raises(AssertionError, match=r"Expected 0 deferred jobs of send\(\), found 3\."):
        assert_deferred(app, send, count=0)


def test_jobs_that_ran_were_deferred(app, send):
    send.defer()
    app.run_worker(wait=False)
    assert_deferred(app, send)


@pytest.mark.parametrize(
    ("given", "fitting", "unfitting"),
    [
        ({"queue": "q"}, {"queue": "q"}, {"queue": "default"}),
        ({"priority": 3}, {"priority": 3}, {"priority": 0}),
        ({"lock": "l"}, {"lock": "l"}, {"lock": None}),
        ({}, {"lock": None, "queueing_lock": None, "schedule_at": None}, {"queueing_lock": "l"}),
        ({"queueing_lock": "l"}, {"queueing_lock": "l"}, {"queueing_lock": "other"}),
        ({"schedule_at": NOON}, {"schedule_at": NOON}, {"schedule_at": None}),
        ({"schedule_in": {"hours": 1}}, {"schedule_in": {"hours": 1}}, {"schedule_in": {"hours": 2}}),
        ({}, {}, {"schedule_in": {"hours": 1}}),
    ],
)
def test_options(app, send, given, fitting, unfitting):
    send.configure(**given).defer()
    assert_deferred(app, send, options=fitting)
    assert_deferred(app, send, options=unfitting, count=0)
    with pytest.raises(AssertionError, match="instead of"):
        assert_deferred(app, send, options=unfitting)


def test_unknown_option(app, send):
    with pytest.raises(TypeError, match="'quue': did you mean 'queue'"):
        assert_deferred(app, send, options={"quue": "q"})


def test_message_shows_the_closest_first(app, send):
    @app.task(name="other")
    def other(to):
        pass

    other.defer(to="ann")
    send.configure(lock="l").defer(to="bob", copies=1)
    send.defer(to="bob")
    with pytest.raises(AssertionError) as caught:
        assert_deferred(app, send, to="ann", copies=1, options={"lock": "l", "schedule_at": None})
    assert str(caught.value) == (
        "Expected 1 deferred job of send(to='ann', copies=1) with lock='l', schedule_at=None, found none.\n"
        "Deferred instead, the closest first:\n"
        "  send[2](to='bob', copies=1): to='bob' instead of 'ann'\n"
        "  send[3](to='bob'): to='bob' instead of 'ann', no copies, lock=None instead of 'l'\n"
        "  other[1](to='ann'): another task, no copies, lock=None instead of 'l'"
    )


def test_message_when_nothing_was_deferred(app, send):
    with pytest.raises(AssertionError) as caught:
        assert_deferred(app, send)
    assert str(caught.value) == "Expected 1 deferred job of send(), found none.\nNo job at all was deferred."


def test_message_stays_short(app, send):
    send.batch_defer(*({"to": str(number)} for number in range(25)))
    for wrong in ({"count": 0}, {"to": "nobody"}):
        with pytest.raises(AssertionError) as caught:
            assert_deferred(app, send, **wrong)
        text = str(caught.value)
        assert text.count("send[") == 10
        assert text.endswith("… and 15 more")


def test_json_of_the_apps_own(send):
    """Values are compared as the task will see them."""
    connector = testing.InMemoryConnector(
        json_dumps=lambda value: json.dumps(value, default=str),
    )
    app = procrastinate.App(connector=connector)
    day = datetime.date(2030, 1, 1)
    app.configure_task("any").defer(day=day)
    assert_deferred(app, "any", day=day)
    assert_deferred(app, "any", day="2030-01-01")


def test_real_database(database, send):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=1))
    with pytest.raises(exceptions.AppNotOpen):
        assert_deferred(app, "send")
    with app.open():
        app.configure_task("send", queue="q").defer(to="ann")
        [job] = assert_deferred(app, "send", to="ann", options={"queue": "q"})
        assert job.id == 1
        with pytest.raises(AssertionError, match="closest first"):
            assert_deferred(app, "send", to="bob")


async def test_real_database_asynchronously(database, send):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=1))
    async with app.open_async():
        await app.configure_task("send").defer_async(to="ann")
        [job] = await assert_deferred_async(app, "send", to="ann")
        assert await deferred_jobs_async(app, "send", {"to": "ann"}) == [job]
        with pytest.raises(AssertionError, match="closest first"):
            await assert_deferred_async(app, "send", to="bob")
