"""The models: what they read, and that they refuse to write."""

import datetime
import inspect

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import models as django_models
from sample_site.shop import tasks
from sample_site.shop.models import Order

from procrastinate import jobs
from procrastinate.contrib.django import exceptions, models
from procrastinate.contrib.django.models import (
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)

ALL = (ProcrastinateJob, ProcrastinateEvent, ProcrastinateWorker, ProcrastinatePeriodicDefer)


@pytest.fixture
def job(db):
    return ProcrastinateJob.objects.get(id=tasks.divide.configure(lock="l").defer(a=3, b=0))


def test_jobs_as_text_and_as_values(job, app):
    assert str(job) == f"sample_site.shop.tasks.divide[{job.id}](a=3, b=0)"
    assert job.procrastinate_job == app.job_manager.list_jobs()[0]
    worker = app.connector.execute_query_one("insert into procrastinate_workers default values returning id")["id"]
    app.connector.execute_query("update procrastinate_jobs set status = 'doing', worker_id = %(w)s", w=worker)
    job.refresh_from_db()
    assert job.procrastinate_job.worker_id == worker
    assert job.worker.id == worker
    assert str(job.worker) == f"Worker {worker} - Last heartbeat at {job.worker.last_heartbeat}"
    assert list(job.worker.procrastinatejob_set.all()) == [job]


def test_no_other_app_is_asked_for():
    """The site has none of ours but `procrastinate.contrib.django`."""
    assert "django.contrib.postgres" not in settings.INSTALLED_APPS
    call_command("check", fail_level="WARNING")


def test_events(job, work):
    work()
    events = list(job.procrastinateevent_set.order_by("id"))
    types = [event.type for event in events]
    assert types[:2] == ["deferred", "started"]
    assert set(types[2:4]) == {"deferred_for_retry", "scheduled"}
    assert types[4:] == ["started", "failed"]
    assert str(events[0]) == f"Event {events[0].id} - Job {job.id}: deferred at {events[0].at}"
    assert job.procrastinateevent_set.latest().type == "failed"
    assert events[0].job == job
    assert ProcrastinateEvent.objects.filter(type="failed", job__queue_name="sums").count() == 1


def test_periodic_defers(db, app):
    row = app.connector.execute_query_one(
        "insert into procrastinate_periodic_defers (task_name, defer_timestamp) values ('t', 12) returning id"
    )
    defer = ProcrastinatePeriodicDefer.objects.get(id=row["id"])
    assert (defer.periodic_id, defer.job, str(defer)) == ("", None, f"Periodic defer {defer.id} - t at 12")


def test_choices_are_complete(db, app):
    def labels(name):
        query = (
            "select e.enumlabel as label from pg_enum e join pg_type t on t.oid = enumtypid where typname = %(name)s"
        )
        return {row["label"] for row in app.connector.execute_query_all(query, name=name)}

    assert set(ProcrastinateJob.STATUSES) == labels("procrastinate_job_status") - {"aborting"}
    assert set(ProcrastinateJob.STATUSES) == {status.value for status in jobs.Status} - {"aborting"}
    assert set(ProcrastinateEvent.TYPES) == labels("procrastinate_job_event_type")


@pytest.mark.parametrize("model", ALL)
def test_the_columns_are_those_of_the_database(db, app, model):
    query = "select column_name from information_schema.columns where table_name = %(table)s"
    columns = {row["column_name"] for row in app.connector.execute_query_all(query, table=model._meta.db_table)}
    assert columns == {field.column for field in model._meta.concrete_fields}
    assert not model._meta.managed


WRITES = {
    "create": {},
    "get_or_create": {"id": -1},
    "update_or_create": {"id": -1},
    "bulk_create": {"objs": []},
    "bulk_update": {"objs": [], "fields": ["id"]},
    "update": {"id": 1},
    "delete": {},
}


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("name", WRITES)
def test_querysets_and_managers_are_read_only(db, model, name):
    for source in (model.objects, model.objects.all(), model.objects.filter(id=1), model._base_manager.all()):
        with pytest.raises(exceptions.ReadOnlyModel, match="read-only"):
            getattr(source, name)(**WRITES[name])


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("name", WRITES)
async def test_querysets_and_managers_are_read_only_asynchronously(db, model, name):
    for source in (model.objects, model.objects.all()):
        with pytest.raises(exceptions.ReadOnlyModel, match="read-only"):
            await getattr(source, f"a{name}")(**WRITES[name])


def test_no_way_to_write_was_forgotten():
    altering = {
        name
        for name, method in inspect.getmembers(django_models.QuerySet)
        if getattr(method, "alters_data", False) and not name.startswith("_")
    }
    assert {name for name in altering if not name.startswith("a")} <= WRITES.keys()
    assert altering <= vars(models.ReadOnlyQuerySet).keys()


@pytest.mark.parametrize("model", ALL)
def test_instances_are_read_only(db, model):
    for write in (model().save, model(id=1).delete):
        with pytest.raises(exceptions.ReadOnlyModel):
            write()


def test_relations_are_read_only(job, app):
    worker = ProcrastinateWorker.objects.get(
        id=app.connector.execute_query_one("insert into procrastinate_workers default values returning id")["id"]
    )
    for write in (lambda: worker.procrastinatejob_set.add(job), worker.procrastinatejob_set.clear):
        with pytest.raises(exceptions.ReadOnlyModel):
            write()


def test_read_only_can_be_switched_off(job, settings):
    settings(PROCRASTINATE_READONLY_MODELS=False)
    ProcrastinateJob.objects.filter(id=job.id).update(status="succeeded")
    job.refresh_from_db()
    assert job.status == "succeeded"
    job.priority = 12
    job.save()
    at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    made = ProcrastinateJob.objects.create(task_name="t", queue_name="q", scheduled_at=at)
    more = ProcrastinateJob.objects.bulk_create([ProcrastinateJob(task_name=name, queue_name="q") for name in "ab"])
    more[0].status = "failed"
    ProcrastinateJob.objects.bulk_update(more, ["status", "priority"])
    assert set(ProcrastinateJob.objects.values_list("priority", "status")) == {
        (12, "succeeded"),
        (0, "todo"),
        (0, "failed"),
    }
    assert made.procrastinateevent_set.count() == 2
    made.delete()
    ProcrastinateJob.objects.filter(queue_name="q").delete()
    assert ProcrastinateJob.objects.get() == job


async def test_read_only_can_be_switched_off_asynchronously(db, settings):
    settings(PROCRASTINATE_READONLY_MODELS=False)
    job = await ProcrastinateJob.objects.acreate(task_name="t", queue_name="q")
    assert await ProcrastinateJob.objects.filter(id=job.id).aupdate(priority=3) == 1
    assert (await ProcrastinateJob.objects.all().adelete())[0] == 1


def test_the_projects_own_models_may_point_at_jobs(job):
    Order.objects.create(name="x", job=job)
    assert Order.objects.filter(job__status="todo").get().job.task_name == "sample_site.shop.tasks.divide"
    assert job.orders.get().name == "x"
