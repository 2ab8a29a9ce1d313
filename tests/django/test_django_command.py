"""`manage.py procrastinate`, in this process and in one of its own."""

import io
import re
import signal
import subprocess
import sys
import time

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from sample_site.shop import tasks
from sample_site.shop.models import Order

from procrastinate import PsycopgConnector, SyncPsycopgConnector, testing
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.models import ProcrastinateJob

COMMANDS = (
    "worker",
    "defer",
    "jobs",
    "queues",
    "tasks",
    "locks",
    "workers",
    "retry",
    "cancel",
    "shell",
    "schema",
    "healthchecks",
)


def run(*words):
    """Run a command; return its exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command("procrastinate", *words, stdout=out, stderr=err)
    except SystemExit as stop:
        code = stop.code
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def process(environment):
    """Start `manage.py procrastinate` in a process of its own."""

    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "django", "procrastinate", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finished(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_jobs_are_deferred_and_run(db, app):
    connector = app.connector
    code, out, err = run("defer", "sample_site.shop.tasks.ship", "name=x")
    assert (code, err) == (0, "Launching a job: sample_site.shop.tasks.ship(name='x')\n")
    assert out.strip() == str(ProcrastinateJob.objects.get().id)
    assert run("worker", "--one-shot") == (0, "", "Launching a worker on all queues\n")
    assert Order.objects.get().name == "x"
    assert app.connector is connector


def test_jobs_are_looked_at_and_changed(db):
    job_id = tasks.divide.configure(lock="l").defer(a=1, b=0)
    assert "sums" in run("queues")[1]
    assert "divide" in run("tasks")[1]
    assert "l" in run("locks")[1]
    run("worker", "-w", "--one-shot")
    assert "failed" in run("jobs", "--status", "failed")[1]
    assert run("retry", str(job_id))[0] == 0
    assert run("shell", "cancel", str(job_id))[1].endswith("[cancelled]\n")
    assert run("workers")[0] == 0
    assert run("cancel", str(job_id))[0] == 1


def test_options_may_be_given_by_name(db, app):
    call_command("procrastinate", "defer", "t", unknown=True, queue="q", priority=4, stdout=io.StringIO())
    [job] = app.job_manager.list_jobs()
    assert (job.queue, job.priority) == ("q", 4)
    call_command("procrastinate", "worker", wait=False, queues=["other"])
    assert app.job_manager.get_job_status(job.id).value == "todo"
    call_command("procrastinate", "worker", wait=False)
    assert app.job_manager.get_job_status(job.id).value == "failed"
    with pytest.raises(TypeError, match="nonsense"):
        call_command("procrastinate", "worker", nonsense=1)


def test_unknown_tasks_and_options(db):
    code, _, err = run("defer", "nonsense")
    assert code == 1
    assert "'nonsense' is not known" in err
    code, _, err = run("worker", "--nonsense")
    assert code == 2
    assert "No such option" in err


def test_another_async_connector_is_used_as_it_is(db, app):
    with app.replace_connector(testing.InMemoryConnector()):
        assert run("defer", "sample_site.shop.tasks.divide", "a=1", "b=1")[:2] == (0, "1\n")
        assert run("worker", "--one-shot")[0] == 0
        assert app.connector.jobs[1]["status"] == "succeeded"
        assert run("healthchecks")[0] == 0
    with app.replace_connector(PsycopgConnector(conninfo=db)):
        assert run("worker", "--one-shot")[0] == 0
        assert run("healthchecks")[0] == 0


def test_a_sync_connector_is_refused(app):
    with app.replace_connector(SyncPsycopgConnector()):
        code, _, err = run("worker")
    assert code == 2
    assert "SyncPsycopgConnector, is not async" in err


def test_healthchecks(db):
    assert run("healthchecks") == (
        0,
        "Database connection: OK\nMigrations: OK\nDefault Django Procrastinate App: OK\nWorker App: OK\n",
        "",
    )


def test_healthchecks_without_migrations(empty_db):
    code, out, err = run("healthchecks")
    assert (code, out) == (1, "Database connection: OK\n")
    assert err == "Missing procrastinate migrations. Run `python manage.py migrate procrastinate`.\n"


def test_healthchecks_without_a_server(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    code, out, err = run("healthchecks")
    assert (code, out) == (1, "")
    assert "cannot be reached" in err


def test_healthchecks_with_broken_migrations(db, monkeypatch):
    def refuse(*_):
        raise ImproperlyConfigured("these migrations are broken")

    monkeypatch.setattr(MigrationExecutor, "__init__", refuse)
    code, out, err = run("healthchecks")
    assert (code, out) == (1, "Database connection: OK\n")
    assert "these migrations are broken" in err


def test_healthchecks_without_tables(db, app):
    for table in ("procrastinate_events", "procrastinate_jobs"):
        kind = "view" if table.endswith("events") else "table"
        app.connector.execute_query(f"drop {kind} {table} cascade")
    code, out, err = run("healthchecks")
    assert (code, out) == (1, "Database connection: OK\nMigrations: OK\n")
    assert "procrastinate_jobs was not found" in err
    assert isinstance(app.connector, DjangoConnector)


def test_help_names_the_commands(process):
    code, out, _ = finished(process("--help"))
    assert code == 0
    assert tuple(re.findall(r"^    (\w+) ", out, re.MULTILINE)) == COMMANDS
    assert "--verbosity" not in out


def test_the_schema_is_verified(db, app):
    assert run("schema", "--verify") == (0, "", "The schema is as expected.\n")
    app.connector.execute_query("drop index procrastinate_jobs_lock_idx_v1")
    code, out, _ = run("schema", "--verify")
    assert code == 1
    assert "procrastinate_jobs_lock_idx_v1" in out


def test_djangos_options_go_before_the_command(process):
    code, out, _ = finished(process("--settings", "sample_site.settings", "-v", "2", "worker", "--help"))
    assert code == 0
    assert "PROCRASTINATE_WORKER_CONCURRENCY" in out


def test_a_worker_ends_at_a_signal(process, db):
    worker = process("worker")
    tasks.ship.defer(name="x")
    try:
        while ProcrastinateJob.objects.get().status != "succeeded":
            assert worker.poll() is None, worker.communicate()
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
    assert finished(worker)[0] == 0
