"""Django's own connection as a connector."""

import asyncio
import datetime
import json
import secrets

import django.db
import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from sample_site.shop import tasks

from procrastinate import exceptions
from procrastinate.connector import BaseAsyncConnector
from procrastinate.contrib.django import connector_params
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.procrastinate_app import DjangoApp


def test_a_deferred_job_is_a_row(db):
    job_id = tasks.divide.configure(lock="l", schedule_in={"hours": 1}).defer(a=1, b=2)

    job = ProcrastinateJob.objects.get(id=job_id)
    assert (job.task_name, job.args, job.queue_name) == ("sample_site.shop.tasks.divide", {"a": 1, "b": 2}, "sums")
    assert (job.priority, job.lock, job.status, job.waits_for) == (3, "l", "todo", "time")


async def test_the_async_verbs_work_too(db, app):
    job_id = await tasks.ship.defer_async(name="x")
    assert (await app.job_manager.get_job_status_async(job_id)).value == "todo"
    assert await app.job_manager.cancel_job_by_id_async(job_id)
    [job] = await app.job_manager.list_jobs_async(id=job_id)
    assert job.status == "cancelled"


def test_a_job_goes_with_the_transaction_that_deferred_it(db):
    def fail_after_all():
        with transaction.atomic():
            tasks.ship.defer(name="x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_all()
    assert not ProcrastinateJob.objects.exists()

    with transaction.atomic():
        tasks.ship.defer(name="x")
    assert ProcrastinateJob.objects.count() == 1


def test_only_outside_of_a_transaction_the_notification_is_left_to_another_one(db):
    with psycopg.connect(db, autocommit=True) as listening, psycopg.connect(db) as ringing:
        listening.execute("listen procrastinate_any_queue_v1")
        ringing.execute("select pg_advisory_xact_lock(hashtextextended('default', 8080))")
        tasks.ship.defer(name="x")
        with transaction.atomic():
            job_id = tasks.ship.defer(name="y")
        (notification,) = listening.notifies(timeout=20, stop_after=1)
    assert json.loads(notification.payload)["job_id"] == job_id


def test_a_refused_batch_is_undone_and_the_transaction_goes_on(db):
    with transaction.atomic():
        tasks.ship.configure(queueing_lock="q").defer(name="first")
        with pytest.raises(exceptions.AlreadyEnqueued):
            tasks.ship.configure(queueing_lock="q").batch_defer({"name": "a"}, {"name": "b"})
        tasks.ship.defer(name="last")
    assert [job.args["name"] for job in ProcrastinateJob.objects.order_by("id")] == ["first", "last"]


def test_a_refused_batch_is_undone_outside_of_transactions_too(db):
    with pytest.raises(exceptions.AlreadyEnqueued):
        tasks.ship.configure(queueing_lock="q").batch_defer({"name": "a"}, {"name": "b"})
    assert not ProcrastinateJob.objects.exists()


def test_unknown_ids_raise_at_once(db, app):
    with pytest.raises(exceptions.NoResult):
        app.job_manager.get_job_status(12345)


async def test_unknown_ids_raise_at_once_asynchronously(db, app):
    with pytest.raises(exceptions.NoResult):
        await app.job_manager.get_job_status_async(12345)


def test_the_users_own_queries(db, app):
    connector = app.connector
    assert connector.execute_query("select 1") is None
    row = connector.execute_query_one("select %(d)s as d, now() as at, 100 % 7 as rest", d={"a": [1]})
    assert (row["d"], row["rest"]) == ({"a": [1]}, 2)
    assert row["at"].utcoffset() is not None
    assert connector.execute_query_all("select 1 as x where false") == []
    with pytest.raises(exceptions.NoResult):
        connector.execute_query_one("select 1 where false")


async def test_the_users_own_queries_asynchronously(db, app):
    connector = app.connector
    await connector.execute_query_async("create table t (a int)")
    assert await connector.execute_query_all_async("select * from t") == []
    assert await connector.execute_query_one_async("select 1 as x") == {"x": 1}
    with pytest.raises(exceptions.NoResult):
        await connector.execute_query_one_async("select * from t")


def test_errors_are_ours_with_the_drivers_as_their_cause(db, app):
    with pytest.raises(exceptions.ConnectorException) as caught:
        app.connector.execute_query("select nonsense")
    assert type(caught.value.__cause__).__module__.startswith("psycopg")


def test_a_violated_constraint_is_named(db, app):
    app.connector.execute_query("create table u (a int constraint the_constraint unique); insert into u values (1)")
    with pytest.raises(exceptions.UniqueViolation) as caught:
        app.connector.execute_query("insert into u values (1)")
    assert caught.value.constraint_name == "the_constraint"


def test_what_cannot_be_stored_is_said(db):
    with pytest.raises(exceptions.InvalidData):
        tasks.ship.configure(lock="a\0b").defer(name="x")


def test_errors_of_django_itself_stay_as_they_are(db):
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            tasks.ship.defer(name="x")


def test_missing_tables_are_said(empty_db):
    with pytest.raises(exceptions.SchemaNotApplied):
        tasks.ship.defer(name="x")


def test_an_unreachable_server_is_a_lost_connection(monkeypatch, app):
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    with pytest.raises(exceptions.ConnectionLost):
        app.check_connection()


def test_connections_of_the_caller_are_refused(db):
    with pytest.raises(exceptions.ConnectorException, match="external connections"):
        tasks.ship.configure(connection=connection).defer(name="x")


def test_nothing_needs_to_be_opened(db, app):
    with app.open():
        tasks.ship.defer(name="x")
    app.close()
    assert app.check_connection()
    with pytest.raises(ImproperlyConfigured, match="Pool is not supported"):
        app.open(object())


async def test_pools_are_refused_asynchronously(app):
    with pytest.raises(ImproperlyConfigured, match="Pool is not supported"):
        await app.open_async(object())


def test_another_database_than_postgresql_is_refused():
    app = DjangoApp(connector=DjangoConnector("lite"))
    with pytest.raises(ImproperlyConfigured, match="needs PostgreSQL, and the database 'lite' is SQLite"):
        app.check_connection()
    with pytest.raises(ImproperlyConfigured, match="needs PostgreSQL"):
        DjangoConnector("lite").get_worker_connector()


def test_another_alias_is_another_database(db, other_db):
    app = DjangoApp(connector=DjangoConnector("other"))
    app.configure_task("somewhere.else").defer()
    assert not ProcrastinateJob.objects.exists()
    assert ProcrastinateJob.objects.using("other").count() == 1


def test_models_follow_the_alias(db, other_db, settings):
    app = DjangoApp(connector=DjangoConnector("other"))
    app.configure_task("somewhere.else").defer()
    settings(PROCRASTINATE_DATABASE_ALIAS="other")
    job = ProcrastinateJob.objects.get()
    assert [event.type for event in job.procrastinateevent_set.all()] == ["deferred"]
    assert not ProcrastinateJob.objects.using("default").exists()


def test_a_naive_project_gets_aware_times(db, app, settings):
    tasks.ship.configure(schedule_at=datetime.datetime(2040, 7, 1, 12, tzinfo=datetime.UTC)).defer(name="x")
    connection.close()
    settings(USE_TZ=False)
    connection.__dict__.pop("timezone", None)
    connection.__dict__.pop("timezone_name", None)
    try:
        [job] = app.job_manager.list_jobs()
        assert job.scheduled_at == datetime.datetime(2040, 7, 1, 12, tzinfo=datetime.UTC)
        row = ProcrastinateJob.objects.get()
        assert row.scheduled_at == datetime.datetime(2040, 7, 1, 14)  # noqa: DTZ001  what Django gives
        assert row.procrastinate_job.scheduled_at == job.scheduled_at
    finally:
        connection.close()
        connection.__dict__.pop("timezone", None)
        connection.__dict__.pop("timezone_name", None)


def test_connection_parameters(db):
    parameters = connector_params()
    assert parameters["dbname"] == connection.settings_dict["NAME"]
    assert not {"cursor_factory", "context"} & parameters.keys()


def test_a_connector_for_workers(db, app):
    connector = app.connector.get_worker_connector()
    assert isinstance(connector, BaseAsyncConnector)
    assert not isinstance(connector, DjangoConnector)


def test_workers_assume_the_role_that_django_assumes(db, app, monkeypatch):
    role = f"clerk_{secrets.token_hex(4)}"
    app.connector.execute_query(f"create role {role}")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"assume_role": role})

    async def who():
        connector = app.connector.get_worker_connector()
        await connector.open_async()
        row = await connector.execute_query_one_async("select current_user as name")
        await connector.close_async()
        return row["name"]

    assert asyncio.run(who()) == role


async def test_workers_cannot_listen_on_djangos_connection(app):
    with pytest.raises(NotImplementedError, match="get_worker_connector"):
        await app.connector.listen_notify(print, ["channel"])


def test_database_errors_without_a_cause_are_the_users_business(db, app):
    def refuse(execute, sql, params, many, context):
        raise django.db.DatabaseError("said by a wrapper")

    with connection.execute_wrapper(refuse), pytest.raises(django.db.DatabaseError, match="said by a wrapper"):
        app.check_connection()
