"""Models of the tables, to look at jobs with the ORM. They are read-only, for the tables belong to procrastinate."""

# Django has no types, and models get theirs at run time.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from typing_extensions import override

from procrastinate import jobs
from procrastinate.contrib.django import exceptions
from procrastinate.contrib.django.settings import settings

M = TypeVar("M", bound=models.Model)


def _refuse_if_read_only() -> None:
    if settings.READONLY_MODELS:
        raise exceptions.ReadOnlyModel


def _guarded(name: str) -> Any:
    """Return a method of QuerySet that refuses first, and else does as the original."""
    original = getattr(models.QuerySet, name)

    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_if_read_only()
        return original(self, *args, **kwargs)

    async def guarded_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_if_read_only()
        return await original(self, *args, **kwargs)

    method = guarded_async if name.startswith("a") else guarded
    method.__name__, method.__doc__ = name, original.__doc__
    for attribute in ("alters_data", "queryset_only"):
        if hasattr(original, attribute):
            setattr(method, attribute, getattr(original, attribute))
    return method


class ReadOnlyQuerySet(models.QuerySet[M]):
    """A queryset that raises ReadOnlyModel when asked to write, unless PROCRASTINATE_READONLY_MODELS is False."""

    create = _guarded("create")
    acreate = _guarded("acreate")
    get_or_create = _guarded("get_or_create")
    aget_or_create = _guarded("aget_or_create")
    update_or_create = _guarded("update_or_create")
    aupdate_or_create = _guarded("aupdate_or_create")
    bulk_create = _guarded("bulk_create")
    abulk_create = _guarded("abulk_create")
    bulk_update = _guarded("bulk_update")
    abulk_update = _guarded("abulk_update")
    update = _guarded("update")
    aupdate = _guarded("aupdate")
    delete = _guarded("delete")
    adelete = _guarded("adelete")


class ReadOnlyManager(models.Manager.from_queryset(ReadOnlyQuerySet)):
    """Reads from the database that PROCRASTINATE_DATABASE_ALIAS names, unless a router or `using` says otherwise."""

    # A manager has no `delete`, so that nobody empties a table by mistake; here it must say why.
    def delete(self) -> NoReturn:
        """Raise ReadOnlyModel."""
        raise exceptions.ReadOnlyModel

    async def adelete(self) -> NoReturn:
        """Raise ReadOnlyModel."""
        raise exceptions.ReadOnlyModel

    def get_queryset(self) -> ReadOnlyQuerySet[Any]:
        """Return all rows, to be read from the right database."""
        queryset: ReadOnlyQuerySet[Any] = super().get_queryset()
        # Not where an instance's relations are followed: they stay in its database.
        has_database = self._db is not None or bool(self._hints) or settings.DATABASE_ALIAS == "default"
        return queryset if has_database else queryset.using(settings.DATABASE_ALIAS)


class ReadOnlyModel(models.Model):
    """A model that raises ReadOnlyModel when asked to write, unless PROCRASTINATE_READONLY_MODELS is False."""

    objects = ReadOnlyManager()

    class Meta:  # noqa: D106
        abstract = True
        managed = False
        # Also for what relations do, which is not the default manager's work.
        base_manager_name = "objects"

    @override
    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, if the models are not read-only. Raises exceptions.ReadOnlyModel."""
        _refuse_if_read_only()
        super().save(*args, **kwargs)

    @override
    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete, if the models are not read-only. Raises exceptions.ReadOnlyModel."""
        _refuse_if_read_only()
        return super().delete(*args, **kwargs)


class EnumField(models.CharField):
    """Text in a column of one of PostgreSQL's enumerated types."""

    def __init__(self, *args: Any, enum: str, **kwargs: Any) -> None:
        """Name the type."""
        self.enum = enum
        super().__init__(*args, **kwargs)

    @override
    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "enum": self.enum}

    @override
    def db_type(self, connection: Any) -> str:
        return self.enum

    @override
    def get_internal_type(self) -> str:
        return "CharField"


def _choices(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in values]


class _Texts(ArrayField):
    """An array of texts, for which nobody has to put `django.contrib.postgres` into INSTALLED_APPS."""

    def __init__(self, base_field: models.Field | None = None, **options: Any) -> None:
        super().__init__(base_field or models.TextField(), **options)

    @override
    def check(self, **kwargs: Any) -> list[Any]:
        # Django asks for that app since 6.1; what it adds is forms and lookups, and these models are only read.
        return [message for message in super().check(**kwargs) if message.id != "postgres.E005"]

    @override
    def deconstruct(self) -> Any:
        # For migrations it is what it is built on.
        name, _, args, kwargs = super().deconstruct()
        return name, "django.contrib.postgres.fields.ArrayField", args, kwargs


class ProcrastinateWorker(ReadOnlyModel):
    """A worker that is running, or was lately."""

    id = models.BigAutoField(primary_key=True)
    last_heartbeat = models.DateTimeField(default=timezone.now)
    name = models.TextField(null=True, blank=True)  # noqa: DJ001  as the column
    started_at = models.DateTimeField(default=timezone.now)
    queues = _Texts(null=True, blank=True)

    class Meta(ReadOnlyModel.Meta):  # noqa: D106
        db_table = "procrastinate_workers"

    @override
    def __str__(self) -> str:
        return f"Worker {self.id} - Last heartbeat at {self.last_heartbeat}"


class ProcrastinateJob(ReadOnlyModel):
    """A job."""

    STATUSES = (
        "todo",
        "doing",
        "succeeded",
        "failed",
        "cancelled",
        "aborted",
    )

    id = models.BigAutoField(primary_key=True)
    queue_name = models.CharField(max_length=128)
    task_name = models.CharField(max_length=128)
    priority = models.IntegerField(default=0)
    lock = models.TextField(null=True, blank=True)  # noqa: DJ001  no lock and the lock "" are different
    queueing_lock = models.TextField(null=True, blank=True)  # noqa: DJ001  as above
    args = models.JSONField(default=dict)
    status = EnumField(max_length=32, choices=_choices(STATUSES), default="todo", enum="procrastinate_job_status")
    scheduled_at = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)
    abort_requested = models.BooleanField(default=False)
    # Rows go by themselves, and there is no constraint: a worker that ended leaves its number behind.
    worker = models.ForeignKey(
        ProcrastinateWorker, on_delete=models.SET_NULL, null=True, blank=True, db_constraint=False
    )
    waits_for = models.TextField(null=True, blank=True)  # noqa: DJ001  as the column
    claims = models.IntegerField(default=0)
    rescues = models.IntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    attempted_at = models.DateTimeField(null=True, blank=True)
    abort_requested_at = models.DateTimeField(null=True, blank=True)
    finalized_at = models.DateTimeField(null=True, blank=True)
    attempts_log = models.JSONField(null=True, blank=True)

    class Meta(ReadOnlyModel.Meta):  # noqa: D106
        db_table = "procrastinate_jobs"
        permissions = (
            ("retry_procrastinatejob", "Can retry jobs"),
            ("cancel_procrastinatejob", "Can cancel jobs that wait"),
            ("abort_procrastinatejob", "Can abort jobs that run"),
            ("run_now_procrastinatejob", "Can run scheduled jobs now"),
        )

    @override
    def __str__(self) -> str:
        return self.procrastinate_job.call_string

    @property
    def procrastinate_job(self) -> jobs.Job:
        """The job as procrastinate's own value."""
        at = self.scheduled_at
        return jobs.Job(
            id=self.id,
            status=self.status,
            queue=self.queue_name,
            priority=self.priority,
            lock=self.lock,
            queueing_lock=self.queueing_lock,
            task_name=self.task_name,
            task_kwargs=self.args,
            scheduled_at=timezone.make_aware(at) if at is not None and timezone.is_naive(at) else at,
            attempts=self.attempts,
            abort_requested=self.abort_requested,
            worker_id=self.worker_id,
        )


class ProcrastinateEvent(ReadOnlyModel):
    """Something that happened to a job: a line of a view over the jobs."""

    TYPES = (
        "deferred",
        "started",
        "deferred_for_retry",
        "failed",
        "succeeded",
        "cancelled",
        "abort_requested",
        "aborted",
        "scheduled",
        "retried",
    )

    id = models.BigAutoField(primary_key=True)
    # The view loses the lines of a deleted job by itself, and nobody can delete from it.
    job = models.ForeignKey(ProcrastinateJob, on_delete=models.DO_NOTHING, db_constraint=False)
    type = EnumField(max_length=32, choices=_choices(TYPES), enum="procrastinate_job_event_type")
    at = models.DateTimeField(null=True, blank=True)

    class Meta(ReadOnlyModel.Meta):  # noqa: D106
        db_table = "procrastinate_events"
        get_latest_by = "at"

    @override
    def __str__(self) -> str:
        return f"Event {self.id} - Job {self.job_id}: {self.type} at {self.at}"


class ProcrastinatePeriodicDefer(ReadOnlyModel):
    """The latest tick of a periodic task for which a job was deferred."""

    id = models.BigAutoField(primary_key=True)
    task_name = models.CharField(max_length=128)
    defer_timestamp = models.BigIntegerField(null=True, blank=True)
    # The database forgets the job when it is deleted, and remembers the tick.
    job = models.ForeignKey(ProcrastinateJob, on_delete=models.DO_NOTHING, null=True, blank=True, db_constraint=False)
    periodic_id = models.CharField(max_length=128, default="", blank=True)

    class Meta(ReadOnlyModel.Meta):  # noqa: D106
        db_table = "procrastinate_periodic_defers"
        unique_together = (("task_name", "periodic_id", "defer_timestamp"),)

    @override
    def __str__(self) -> str:
        return f"Periodic defer {self.id} - {self.task_name} at {self.defer_timestamp}"
