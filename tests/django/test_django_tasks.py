"""Django's Tasks framework on our backend."""

import datetime
import importlib
import subprocess
import sys

import pytest
from django.core import checks
from django.db import transaction
from django.utils import timezone
from sample_site import jobs as sample
from sample_site.shop.models import Order

from procrastinate import testing
from procrastinate.contrib.django import task_backend
from procrastinate.contrib.django import tasks as tasks_module
from procrastinate.contrib.django.models import ProcrastinateJob

framework = importlib.import_module(task_backend.PACKAGE)
errors = importlib.import_module(f"{task_backend.PACKAGE}.exceptions")
signals = importlib.import_module(f"{task_backend.PACKAGE}.signals")
Status = framework.TaskResultStatus
InvalidTask = getattr(errors, "InvalidTask", None) or errors.InvalidTaskError


@pytest.fixture
def heard():
    """The signals that were sent: their names, and the status of the result."""
    found = []

    def listener(name):
        def listen(sender, task_result, **kwargs):
            assert sender is task_backend.ProcrastinateBackend
            found.append((name, task_result.id, task_result.status, sys.exc_info()[0]))

        return listen

    listeners = [
        (getattr(signals, name), listener(name)) for name in ("task_enqueued", "task_started", "task_finished")
    ]
    for signal, listen in listeners:
        signal.connect(listen)
    yield found
    for signal, listen in listeners:
        signal.disconnect(listen)


def test_the_backend_says_what_it_can():
    backend = framework.default_task_backend
    assert type(backend) is tasks_module.ProcrastinateBackend or isinstance(
        framework.task_backends["default"], tasks_module.ProcrastinateBackend
    )
    for feature in ("defer", "async_task", "get_result", "priority"):
        assert getattr(backend, f"supports_{feature}")
    with pytest.raises(AttributeError):
        tasks_module.nonsense  # noqa: B018


def test_a_task_is_a_job(db):
    result = sample.order.enqueue("x")
    job = ProcrastinateJob.objects.get()
    assert (job.task_name, job.args) == ("sample_site.jobs.order", {"args": ["x"], "kwargs": {}})
    assert (job.queue_name, job.priority, job.status) == ("slow", 7, "todo")
    assert (result.id, result.status, result.backend, result.attempts) == (str(job.id), Status.READY, "default", 0)
    assert result.enqueued_at is not None
    assert not result.is_finished
    with pytest.raises(ValueError, match="not finished"):
        result.return_value  # noqa: B018


def test_tasks_run_and_their_results_are_kept(db, work, heard):
    result, empty, ordered = sample.add.enqueue(1, b=2), sample.nothing.enqueue(), sample.order.enqueue("x")
    work()
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (Status.SUCCESSFUL, {"sum": 3}, 1)
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert sample.nothing.get_result(empty.id).return_value is None
    assert sample.order.get_result(ordered.id).return_value == ["x"]
    assert Order.objects.get().name == "x"
    assert [name for name, job_id, *_ in heard if job_id == result.id] == [
        "task_enqueued",
        "task_started",
        "task_finished",
    ]
    assert heard[-1][2] == Status.SUCCESSFUL
    # What is kept of the value is no event.
    assert list(ProcrastinateJob.objects.get(id=result.id).procrastinateevent_set.values_list("type", flat=True)) == [
        "deferred",
        "started",
        "succeeded",
    ]


async def test_the_async_verbs(db, app):
    result = await sample.add.aenqueue(1)
    await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
    await result.arefresh()
    assert result.return_value == {"sum": 2}
    assert (await sample.add.aget_result(result.id)).status == Status.SUCCESSFUL


@pytest.mark.parametrize(("kind", "error"), [("own", sample.TroubleError), ("builtin", ValueError)])
def test_failures_are_told(db, work, heard, kind, error):
    result = sample.fail.enqueue(kind=kind)
    work()
    result.refresh()
    assert (result.status, result.attempts) == (Status.FAILED, 1)
    [told] = result.errors
    assert told.exception_class is error
    assert "so it is" in told.traceback
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018
    assert heard[-1] == ("task_finished", result.id, Status.FAILED, error)


def test_a_value_that_is_no_json_is_a_failure(db, work):
    result = sample.strange.enqueue()
    work()
    result.refresh()
    assert result.status == Status.FAILED
    assert result.errors[0].exception_class is TypeError


def test_the_context_knows_the_attempt(db, work, app):
    sample.contexts.clear()
    result = sample.tell.enqueue("hello")
    work()
    app.connector.execute_query("update procrastinate_jobs set status = 'failed'")
    app.job_manager.retry_job_by_id(int(result.id), timezone.now())
    work()
    assert sample.contexts == [(1, result.id, "hello", Status.RUNNING), (2, result.id, "hello", Status.RUNNING)]
    result.refresh()
    assert result.attempts == 2


def test_priorities_and_queues(db, work):
    urgent, normal = sample.add.using(priority=50).enqueue(1), sample.add.using(queue_name="slow").enqueue(2)
    jobs = {str(job.id): job for job in ProcrastinateJob.objects.all()}
    assert (jobs[urgent.id].priority, jobs[normal.id].queue_name) == (50, "slow")
    work(queues=["slow"])
    urgent.refresh()
    normal.refresh()
    assert (urgent.status, normal.status) == (Status.READY, Status.SUCCESSFUL)


def test_run_after(db):
    later = timezone.now() + datetime.timedelta(hours=1)
    sample.add.using(run_after=later).enqueue(1)
    assert ProcrastinateJob.objects.get().scheduled_at == later


def test_run_after_without_time_zones(db, settings):
    settings(USE_TZ=False)
    later = datetime.datetime(2040, 1, 1, 12)  # noqa: DTZ001  as in such projects
    sample.add.using(run_after=later).enqueue(1)
    settings(USE_TZ=True)
    assert ProcrastinateJob.objects.get().scheduled_at == datetime.datetime(2040, 1, 1, 11, tzinfo=datetime.UTC)


def test_tasks_go_with_their_transaction(db):
    def fail_after_all():
        with transaction.atomic():
            sample.add.enqueue(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_all()
    assert not ProcrastinateJob.objects.exists()
    with transaction.atomic():
        sample.add.enqueue(1)
    assert ProcrastinateJob.objects.count() == 1


def test_tasks_may_enqueue_tasks(db, work):
    result = sample.chain.enqueue()
    work()
    result.refresh()
    assert sample.add.get_result(result.return_value).return_value == {"sum": 3}


def test_results_that_do_not_exist(db, app, work):
    own = app.configure_task("sample_site.shop.tasks.ship").defer(name="x")
    unknown = app.configure_task("sample_site.jobs.no_task").defer(args=[], kwargs={})
    for result_id in ("12345", "nonsense", str(10**30), str(own), str(unknown)):
        with pytest.raises(errors.TaskResultDoesNotExist):
            framework.default_task_backend.get_result(result_id)
    result = sample.add.enqueue(1)
    with pytest.raises(errors.TaskResultMismatch):
        sample.nothing.get_result(result.id)


def test_what_is_no_task_is_not_run(db, app, work):
    app.configure_task("sample_site.jobs.no_task").defer(args=[], kwargs={})
    app.configure_task("os.getcwd").defer(args=[], kwargs={})
    work()
    assert set(ProcrastinateJob.objects.values_list("status", flat=True)) == {"failed"}


def test_invalid_tasks_are_refused_early(db):
    with pytest.raises(InvalidTask):
        sample.add.using(queue_name="unknown")
    with pytest.raises(InvalidTask):
        sample.add.using(priority=1000)
    with pytest.raises(TypeError):
        sample.add.enqueue(object())
    assert not ProcrastinateJob.objects.exists()


def test_unit_tests_need_no_database(app):
    memory = testing.InMemoryConnector()
    with app.replace_connector(memory):
        result = sample.add.enqueue(1)
        app.run_worker(wait=False, install_signal_handlers=False)
        result.refresh()
    assert result.return_value == {"sum": 2}


def test_the_check(settings):
    backend = framework.task_backends["default"]
    assert backend.check() == []
    settings(INSTALLED_APPS=["django.contrib.contenttypes"])
    assert [error.id for error in backend.check()] == ["procrastinate.E003"]
    assert isinstance(backend.check()[0], checks.Error)


def test_projects_without_the_framework(environment):
    script = """
import sys
sys.modules["django.tasks"] = sys.modules["django_tasks"] = None
import django
django.setup()
from procrastinate.contrib.django import app
from procrastinate.contrib.django.procrastinate_app import current_app
try:
    current_app.tasks["no.such_task"]
except KeyError:
    print("KeyError")
from procrastinate.contrib.django import tasks
try:
    tasks.ProcrastinateBackend
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "KeyError"
    assert "ImproperlyConfigured" in done.stdout
    assert "pip install django-tasks" in done.stdout
