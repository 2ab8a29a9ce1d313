"""Periodic tasks: schedules, and which ticks are due. Every time here is a plain number."""

import datetime
import itertools
import logging
import time

import pytest

from procrastinate import exceptions, periodic

NOON = int(datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC).timestamp())


def run(timestamp, word=None):
    pass


@pytest.fixture
def task(app):
    return app.task(name="run", queue="q")(run)


@pytest.fixture
def register(app, task):
    def register(cron, periodic_id="", **options):
        app.periodic(cron=cron, periodic_id=periodic_id, **options)(task)
        return app.periodic_registry.periodic_tasks["run", periodic_id]

    return register


@pytest.fixture
def schedule(app):
    return periodic.PeriodicSchedule(app.periodic_registry)


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 * * * * 30", "@daily", "0 9 * * mon-fri", "0 0 29 2 *"])
def test_cron_that_is_right(register, cron):
    assert register(cron).cron == cron


@pytest.mark.parametrize("cron", ["", "often", "* * * *", "60 * * * *", "0 0 30 2 *", "0 0 1 1 * 0 2020", None, 5])
def test_cron_that_is_wrong_is_refused_at_once(app, register, cron):
    with pytest.raises(ValueError, match=r"comes true|no cron expression") as raised:
        register(cron)
    assert repr(cron) in str(raised.value)
    assert not app.periodic_registry.periodic_tasks


def test_decorator_returns_the_task(app, task):
    assert app.periodic(cron="* * * * *")(task) is task


def test_one_schedule_for_each_periodic_id(register):
    register("0 * * * *")
    register("30 * * * *", "other")
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="other"):
        register("45 * * * *", "other")


def test_unknown_option(register):
    with pytest.raises(TypeError, match=r"'qeue'.*'queue'"):
        register("0 * * * *", qeue="x")


def test_unknown_default(app):
    with pytest.raises(TypeError, match=r"periodic_defaults.*'max_dely'.*'max_delay'"):
        type(app)(connector=app.connector, periodic_defaults={"max_dely": 1})


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_ticks_are_in_utc(register, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert register("0 12 * * *").next_tick(NOON - 1) == NOON
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("at", "latest", "following"), [(0, 0, 60), (0.5, 0, 60), (59.9, 0, 60), (-0.1, -60, 0)])
def test_a_tick_counts_from_its_second_on(register, at, latest, following):
    every_minute = register("* * * * *")
    assert next(every_minute.previous_ticks(NOON + at)) == NOON + latest
    assert every_minute.next_tick(NOON + at) == NOON + following


def test_every_second(register):
    every_second = register("* * * * * *")
    assert every_second.next_tick(NOON + 0.5) == NOON + 1
    assert list(itertools.islice(every_second.previous_ticks(NOON + 0.5), 3)) == [NOON, NOON - 1, NOON - 2]


def test_at_first_only_the_latest_tick_is_due(register, schedule):
    every_minute = register("* * * * *")
    assert schedule.due(NOON + 30) == [(every_minute, NOON)]


def test_nothing_is_recorded_by_looking(register, schedule):
    register("* * * * *")
    assert schedule.due(NOON) == schedule.due(NOON) != []


def test_after_a_record_nothing_is_due_before_the_next_tick(register, schedule):
    every_minute = register("* * * * *")
    schedule.record(every_minute, NOON)
    assert schedule.due(NOON + 59.9) == []
    assert schedule.due(NOON + 60) == [(every_minute, NOON + 60)]


def test_missed_ticks_are_caught_up_in_order(register, schedule):
    every_minute = register("* * * * *")
    schedule.record(every_minute, NOON)
    assert schedule.due(NOON + 185) == [(every_minute, NOON + seconds) for seconds in (60, 120, 180)]


def test_a_flood_is_not_caught_up(register, schedule):
    every_second = register("* * * * * *")
    schedule.record(every_second, NOON)
    due = schedule.due(NOON + 5_000)
    assert len(due) == periodic.MOST_CAUGHT_UP
    assert due[-1] == (every_second, NOON + 5_000)


@pytest.mark.parametrize(("late", "count"), [(600, 1), (601, 0)])
def test_at_first_old_ticks_are_left_out(register, schedule, late, count):
    register("0 12 * * *")
    assert len(schedule.due(NOON + late)) == count


def test_limit_for_old_ticks(app, register):
    register("0 12 * * *")
    assert periodic.PeriodicSchedule(app.periodic_registry, max_delay=3600).due(NOON + 3000)


def test_log_records(register, schedule, caplog):
    caplog.set_level(logging.DEBUG, "procrastinate.periodic")
    register("0 12 * * *")
    schedule.due(NOON + 601)
    registered, ignored = caplog.records
    assert (registered.levelname, registered.action, registered.task, registered.cron) == (
        "INFO",
        "registering_periodic_task",
        "run",
        "0 12 * * *",
    )
    assert (ignored.levelname, ignored.action, ignored.task) == ("DEBUG", "ignore_periodic_task", "run")


def test_schedules_are_followed_apart(register, schedule):
    first, second = register("* * * * *", "a"), register("* * * * *", "b")
    schedule.record(first, NOON)
    assert schedule.due(NOON) == [(second, NOON)]


def test_time_until_the_next_tick(register, schedule):
    assert schedule.seconds_until_next(NOON) is None
    register("0 12 * * *")
    assert schedule.seconds_until_next(NOON) == 86_400
    register("* * * * *", "minute")
    assert schedule.seconds_until_next(NOON) == 60
    assert schedule.seconds_until_next(NOON + 59.5) == 0.5


def test_job_of_a_tick(register, schedule):
    arguments = {"word": "x"}
    hourly = register("0 * * * *", lock="l", task_kwargs=arguments, schedule_in={"hours": 1})
    job = schedule.make_job(hourly, NOON)
    assert (job.task_name, job.queue, job.lock, job.scheduled_at) == ("run", "q", "l", None)
    assert job.task_kwargs == {"word": "x", "timestamp": NOON}
    assert arguments == {"word": "x"}
    assert "schedule_in" in hourly.configure_kwargs


@pytest.mark.parametrize("task_kwargs", [None, {}, {"word": 1}])
def test_task_that_takes_no_timestamp(app, task_kwargs):
    bare = app.task(name="bare")(lambda word=None: word)
    with pytest.raises(TypeError, match="does not take argument 'timestamp'"):
        app.periodic(cron="* * * * *", task_kwargs=task_kwargs)(bare)
    assert not app.periodic_registry.periodic_tasks


def test_arguments_that_do_not_fit(register):
    with pytest.raises(TypeError, match=r"'wrod'.*did you mean 'word'"):
        register("* * * * *", task_kwargs={"wrod": 1})


def test_arguments_of_a_task_that_runs_elsewhere(app, schedule):
    app.periodic(cron="* * * * *")(app.task(name="bare", check_arguments=False)(lambda: None))
    (bare,) = app.periodic_registry.periodic_tasks.values()
    assert schedule.make_job(bare, NOON).task_kwargs == {"timestamp": NOON}


@pytest.mark.parametrize("cron", ["R R * * *", "H(0-29)/10 r * * *", "0 0 * * R", "H H H H H"])
def test_drawn_numbers_are_the_same_everywhere(app, register, cron):
    drawn = register(cron)
    tick = drawn.next_tick(NOON)
    assert [drawn.next_tick(NOON) for _ in range(5)] == [tick] * 5
    assert next(drawn.previous_ticks(tick)) == tick
    other = app.task(name="other")(run)
    assert app.periodic_registry.register_task(other, cron, "x", {}).next_tick(NOON) >= NOON


def test_drawn_numbers_follow_from_the_name(app):
    ticks = set()
    for number in range(20):
        task = app.task(name=f"task {number}")(run)
        ticks.add(app.periodic_registry.register_task(task, "R R * * *", "", {}).next_tick(NOON))
    assert len(ticks) > 10


@pytest.mark.parametrize("cron", ["0 0 * mar fri", "@hourly", "0 9 * apr-mar *"])
def test_names_with_the_letters_of_drawn_numbers(register, cron):
    assert register(cron).next_tick(NOON) % 3600 == 0


@pytest.mark.parametrize("periodic_id", [1, None])
def test_periodic_id_that_is_no_text(register, periodic_id):
    with pytest.raises(TypeError, match="text"):
        register("* * * * *", periodic_id)


def test_default_that_is_no_number(app):
    with pytest.raises(TypeError, match="number of seconds"):
        type(app)(connector=app.connector, periodic_defaults={"max_delay": "1h"})
