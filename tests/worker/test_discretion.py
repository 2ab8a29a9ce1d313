"""Arguments that must not appear in logs, whatever happens to the job."""

from __future__ import annotations

import logging
import traceback

import pytest

from procrastinate import App, exceptions, jobs, types
from procrastinate.retry import RetryStrategy
from procrastinate.testing import InMemoryConnector

SECRET = "4111-1111"


class Everything(logging.Handler):
    """Keeps all that a handler could make of the records."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: list[str] = []
        self.actions: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.actions.add(getattr(record, "action", ""))
        self.seen += [logging.Formatter().format(record), repr(record.__dict__)]
        if record.exc_info and record.exc_info[2] is not None:
            # What error trackers report: the variables of each frame.
            frames = traceback.walk_tb(record.exc_info[2])
            self.seen += [repr(frame.f_locals) for frame, _ in frames]

    @property
    def text(self) -> str:
        return "\n".join(self.seen)


@pytest.fixture
def log():
    handler, logger = Everything(), logging.getLogger("procrastinate")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


class DeclinedError(Exception):
    pass


def make_app(app_logs: bool, task_logs: bool) -> App:
    app = App(connector=InMemoryConnector(), log_args=app_logs)

    @app.task(name="pay", log_args=task_logs)
    async def pay(card):
        return f"paid with {card}"

    @app.task(name="decline", log_args=task_logs, retry=RetryStrategy(max_attempts=1))
    def decline(card):
        try:
            {}[card]
        except KeyError as error:
            raise DeclinedError(f"no money on {card}") from error

    @app.task(name="abort", log_args=task_logs)
    async def abort(card):
        raise exceptions.JobAborted(card)

    class Failing(RetryStrategy):
        def get_retry_decision(self, *, exception, job):
            raise ValueError(job.task_kwargs["card"])

    @app.task(name="undecided", log_args=task_logs, retry=Failing())
    async def undecided(card):
        raise DeclinedError(card)

    return app


async def run_all(app: App) -> str:
    """Defer and run a job of each task; return what the database says of its attempts."""
    async with app.open_async():
        for name in ("pay", "decline", "abort", "undecided"):
            await app.configure_task(name).defer_async(card=SECRET)
            await app.tasks[name].batch_defer_async({"card": SECRET})
            await app.tasks[name].defer_many_async([{"card": SECRET}])
        await app.run_worker_async(wait=False, concurrency=3, install_signal_handlers=False)
    return repr([row["attempts_log"] for row in app.connector.jobs.values()])


@pytest.mark.parametrize(("app_logs", "task_logs"), [(False, True), (True, False), (False, False)])
async def test_nothing_is_told(log, app_logs, task_logs):
    attempts = await run_all(make_app(app_logs, task_logs))
    assert log.actions >= {
        "about_to_defer_jobs",
        "jobs_deferred",
        "start_job",
        "job_success",
        "job_error",
        "job_error_retry",
        "job_aborted",
    }
    assert SECRET not in log.text
    assert SECRET not in attempts


async def test_what_is_told_otherwise(log):
    attempts = await run_all(make_app(app_logs=True, task_logs=True))
    assert SECRET in log.text
    assert SECRET in attempts


async def test_types_and_places_are_told(log):
    app = make_app(app_logs=True, task_logs=False)
    async with app.open_async():
        await app.tasks["decline"].defer_async(card=SECRET)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert "decline[1](…)" in log.text
    for told in (log.text, repr(app.connector.jobs[1]["attempts_log"])):
        assert f"{__name__}.DeclinedError" in told
        assert "builtins.KeyError" in told
        assert __file__ in told
        assert "in decline" in told
    [first, last] = app.connector.jobs[1]["attempts_log"]
    assert last["exception"] == "DeclinedError"
    assert "message" not in first.keys() | last.keys()


async def test_an_outcome_that_is_refused(log):
    app = make_app(app_logs=True, task_logs=False)

    @app.task(name="taken", log_args=False, pass_context=True)
    async def taken(context, card):
        await context.app.job_manager.retry_job_by_id_async(context.job.id, types.utcnow())
        await context.app.job_manager.cancel_job_by_id_async(context.job.id)

    async with app.open_async():
        await taken.defer_async(card=SECRET)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert "job_outcome_refused" in log.actions
    assert SECRET not in log.text


async def test_the_task_itself_sees_its_job():
    app = App(connector=InMemoryConnector(), log_args=False)
    seen = []

    @app.task(name="look", pass_context=True)
    async def look(context, card):
        seen.append((card, context.job.task_kwargs))

    async with app.open_async():
        await look.defer_async(card=SECRET)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert seen == [(SECRET, {"card": SECRET})]


def test_a_job_that_keeps_quiet():
    job = jobs.Job(id=1, queue="q", lock="l", queueing_lock=None, task_name="t", task_kwargs={"card": SECRET})
    quiet = job.evolve(log_args=False)
    assert quiet == job
    assert quiet.asdict() == job.asdict()
    assert quiet.call_string == "t[1](…)"
    assert "task_kwargs" not in quiet.log_context()
    assert SECRET in repr(job)
    assert SECRET not in repr(quiet)
    assert "queue='q'" in repr(quiet)


def test_periodic_jobs_of_an_app_that_keeps_quiet():
    app = App(connector=InMemoryConnector(), log_args=False)

    @app.task(name="tick")
    def tick(timestamp, card=""): ...

    assert not app.tasks["tick"].configure(task_kwargs={"card": SECRET}).make_new_job(timestamp=1).log_args
    assert not app.configure_task("elsewhere").make_new_job(card=SECRET).log_args
    assert app.logs_args_of("tick") is app.logs_args_of("elsewhere") is False
