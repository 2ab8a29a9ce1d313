"""Tasks of Django's own framework on procrastinate: how they are enqueued, run, and looked at.

A job is called as the task is, by its path, and its arguments are `args` and `kwargs`.
"""

from __future__ import annotations

# Django has no types.
# pyright: basic
import abc
import datetime
import importlib
import inspect
import json
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from django.utils.module_loading import import_string
from typing_extensions import override

from procrastinate import types
from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.store.inspection import FindJobs, JobFilter, JobRecord
from procrastinate.store.operation import Operation, run_flow, run_flow_async
from procrastinate.tasks import Task
from procrastinate.testing import InMemoryConnector


def _framework() -> str:
    """Return the package of Django's Tasks framework. Raises ImproperlyConfigured if there is none."""
    for name in ("django.tasks", "django_tasks"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
        else:
            return name
    raise ImproperlyConfigured(
        "Django's Tasks framework came with Django 6.0. Before, there is its backport: pip install django-tasks"
    )


PACKAGE = _framework()
_base: Any = importlib.import_module(f"{PACKAGE}.base")
_errors: Any = importlib.import_module(f"{PACKAGE}.exceptions")
_signals: Any = importlib.import_module(f"{PACKAGE}.signals")
_json: Any = importlib.import_module("django.utils.json" if PACKAGE == "django.tasks" else f"{PACKAGE}.utils")
BaseTaskBackend: Any = importlib.import_module(f"{PACKAGE}.backends.base").BaseTaskBackend
Status: Any = _base.TaskResultStatus

LARGEST_ID = 2**63 - 1


def _app() -> App:
    return apps.get_app_config("procrastinate").app


STATUSES = {
    "todo": Status.READY,
    "doing": Status.RUNNING,
    "succeeded": Status.SUCCESSFUL,
    "failed": Status.FAILED,
    "cancelled": Status.FAILED,
    "aborted": Status.FAILED,
}

# The value goes into the job's own log of attempts: there it is kept, and deleted, together with the job. "final" is
# what is no event of its own.
RECORD_VALUE = """
update procrastinate_jobs
set attempts_log = procrastinate_log_attempt_v1(
  attempts_log, jsonb_build_object('event', 'returned', 'final', true, 'value', %(value)s::text::jsonb)
)
where id = %(job_id)s and status = 'doing' and worker_id = %(worker_id)s
"""


class ProcrastinateBackend(BaseTaskBackend):
    """Runs the tasks of Django's framework as jobs of the project's app.

    A task is enqueued in the transaction of the moment: a worker sees it once that is committed, and never if it is
    rolled back. The id of a result is that of the job; a deleted job has no result any more.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Defer a job, and return the result that is still to come.

        Raises TypeError for arguments that are no JSON values, and what deferring a job raises.
        """
        self.validate_task(task)
        at = task.run_after
        deferrer = _app().configure_task(
            task.module_path,
            queue=task.queue_name,
            priority=task.priority,
            schedule_at=timezone.make_aware(at) if at is not None and timezone.is_naive(at) else at,
        )
        arguments = _json.normalize_json({"args": args, "kwargs": kwargs})
        job_id = deferrer.defer(**arguments)
        result = _result(task, job_id, self.alias, arguments, status=Status.READY, enqueued_at=types.utcnow())
        _signals.task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return the result of a job. Raises TaskResultDoesNotExist if no task of the framework has this id."""
        record = _find(int(result_id)) if str(result_id).isdecimal() else None
        task = find_task(record.job.task_name) if record is not None and _is_of_framework(record) else None
        if record is None or task is None:
            raise _errors.TaskResultDoesNotExist(result_id)
        return _recorded_result(task, record, self.alias)

    def check(self, **_: Any) -> list[checks.CheckMessage]:
        """Check that the app is there that the backend needs."""
        if apps.is_installed("procrastinate.contrib.django"):
            return []
        return [
            checks.Error(
                f"The task backend {self.alias!r} needs procrastinate's app.",
                hint="Add 'procrastinate.contrib.django' to INSTALLED_APPS.",
                id="procrastinate.E003",
            )
        ]


# Looking at jobs


def _lookup(job_id: int | None) -> FindJobs:
    return FindJobs(conditions=JobFilter(id=job_id), limit=1, with_log=True)


def _find(job_id: int) -> JobRecord | None:
    connector = _app().connector.get_sync_connector()
    return next(iter(connector.run(_lookup(job_id))), None) if job_id <= LARGEST_ID else None


def _is_of_framework(record: JobRecord) -> bool:
    return record.job.task_kwargs.keys() == {"args", "kwargs"}


def _result(task: Any, job_id: int | None, alias: str, arguments: dict[str, Any], **known: Any) -> Any:
    unknown = {"started_at": None, "finished_at": None, "last_attempted_at": None, "errors": [], "worker_ids": []}
    return _base.TaskResult(
        task=task, id=str(job_id), backend=alias, args=arguments["args"], kwargs=arguments["kwargs"], **unknown | known
    )


def _recorded_result(task: Any, record: JobRecord, alias: str) -> Any:
    log = record.attempts_log or []
    runs = [entry for entry in log if "number" in entry]
    starts = [datetime.datetime.fromisoformat(entry["started_at"]) for entry in runs if "started_at" in entry]
    worker_ids = [str(entry["worker_id"]) for entry in runs if "worker_id" in entry]
    # The latest run stands in the row's own columns; if it ended badly, in the log as well.
    if record.attempted_at is not None and not (runs and runs[-1].get("final")):
        starts.append(record.attempted_at)
        worker_ids.append(str(record.job.worker_id))
    result = _result(
        task,
        record.job.id,
        alias,
        record.job.task_kwargs,
        status=STATUSES[record.job.status or "todo"],
        enqueued_at=record.created_at,
        started_at=starts[0] if starts else None,
        last_attempted_at=starts[-1] if starts else None,
        finished_at=record.finalized_at,
        worker_ids=worker_ids,
        errors=[_error(entry) for entry in runs if "exception" in entry],
    )
    values = [entry.get("value") for entry in log if entry.get("event") == "returned"]
    object.__setattr__(result, "_return_value", values[-1] if values else None)
    return result


def _error(entry: dict[str, Any]) -> Any:
    text, name = entry.get("traceback", ""), entry["exception"]
    # The traceback's last lines name the class with its module, unless it is a builtin.
    paths = re.findall(rf"^((?:\w+\.)*{re.escape(name)})(?::|$)", text, re.MULTILINE)
    path = paths[-1] if paths else name
    return _base.TaskError(exception_class_path=path if path != name else f"builtins.{name}", traceback=text)


# Running tasks


def find_task(name: str) -> Any:
    """Return the task of the framework that has this path and a backend of ours, None if there is none."""
    try:
        task = import_string(name)
    except ImportError:
        return None
    return task if isinstance(task, _base.Task) and isinstance(task.get_backend(), ProcrastinateBackend) else None


def runner(name: str) -> Task[..., Any] | None:
    """Return what runs the jobs of a task of the framework, None if there is no such task."""
    task = find_task(name)
    if task is None:
        return None

    def run(context: JobContext, *, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return run_flow(_run(task, context, args, kwargs), lambda step: step.do())

    async def run_async(context: JobContext, *, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return await run_flow_async(_run(task, context, args, kwargs), lambda step: step.do_async())

    function = run_async if inspect.iscoroutinefunction(task.func) else run
    return Task(function, blueprint=_app(), name=name, queue=task.queue_name, priority=task.priority, pass_context=True)


def _run(task: Any, context: JobContext, args: list[Any], kwargs: dict[str, Any]) -> Generator[Step, Any, Any]:
    """Call the function of a task, and tell Django of it: written once for sync and async tasks."""
    backend = task.get_backend()
    result = yield from _started_result(task, context, {"args": args, "kwargs": kwargs})
    yield Signal(_signals.task_started, backend, result)
    first = [_base.TaskContext(task_result=result)] if task.takes_context else []
    try:
        value = _json.normalize_json((yield Call(task.func, [*first, *args], kwargs)))
        if value is not None:
            yield Record(context, value)
    except BaseException as error:
        _change(result, status=Status.FAILED, finished_at=types.utcnow())
        yield Signal(_signals.task_finished, backend, result, error)
        raise
    _change(result, status=Status.SUCCESSFUL, finished_at=types.utcnow(), _return_value=value)
    yield Signal(_signals.task_finished, backend, result)
    return value


def _started_result(task: Any, context: JobContext, arguments: dict[str, Any]) -> Generator[Step, Any, Any]:
    alias = task.get_backend().alias
    # Who wants the context may ask which attempt this is, and by whom the former ones were made.
    records = (yield Ask(context, _lookup(context.job.id))) if task.takes_context else []
    if records:
        return _recorded_result(task, records[0], alias)
    at = types.from_timestamp(context.start_timestamp)
    return _result(
        task,
        context.job.id,
        alias,
        arguments,
        status=Status.RUNNING,
        enqueued_at=None,
        started_at=at,
        last_attempted_at=at,
        worker_ids=[str(context.job.worker_id)],
    )


def _change(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)


class Step(abc.ABC):
    """Something that is done in the colour of the task."""

    @abc.abstractmethod
    def do(self) -> Any:
        """Do it in the thread of a sync task."""

    @abc.abstractmethod
    async def do_async(self) -> Any:
        """Do it on the event loop."""


@attrs.frozen
class Call(Step):
    """A call of the task's function."""

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]

    @override
    def do(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    @override
    async def do_async(self) -> Any:
        return await self.function(*self.args, **self.kwargs)


@attrs.frozen
class Signal(Step):
    """One of the framework's signals; with the error that is just handled, which receivers find where Python has it."""

    signal: Any
    backend: Any
    result: Any
    error: BaseException | None = None

    @override
    def do(self) -> Any:
        with_traceback = self.error and self.error.__traceback__
        try:
            if self.error is not None:
                raise self.error  # noqa: TRY301  so that receivers find it in sys.exc_info()
        except BaseException as error:  # noqa: BLE001  the task's own, which ends the job
            self.signal.send(type(self.backend), task_result=self.result)
            error.__traceback__ = with_traceback
        else:
            self.signal.send(type(self.backend), task_result=self.result)

    @override
    async def do_async(self) -> Any:
        with_traceback = self.error and self.error.__traceback__
        try:
            if self.error is not None:
                raise self.error  # noqa: TRY301  so that receivers find it in sys.exc_info()
        except BaseException as error:  # noqa: BLE001  as above
            await self.signal.asend(type(self.backend), task_result=self.result)
            error.__traceback__ = with_traceback
        else:
            await self.signal.asend(type(self.backend), task_result=self.result)


@attrs.frozen
class Ask(Step):
    """A question to the store."""

    context: JobContext
    operation: Operation[Any]

    @override
    def do(self) -> Any:
        return self.context.app.connector.get_sync_connector().run(self.operation)

    @override
    async def do_async(self) -> Any:
        return await self.context.app.connector.run_async(self.operation)


@attrs.frozen
class Record(Step):
    """The record of a task's value."""

    context: JobContext
    value: Any

    @override
    def do(self) -> Any:
        connector = self.context.app.connector.get_sync_connector()
        if isinstance(connector, InMemoryConnector):
            self._remember(connector)
        else:
            connector.execute_query(RECORD_VALUE, **self._arguments)

    @override
    async def do_async(self) -> Any:
        connector = self.context.app.connector
        if isinstance(connector, InMemoryConnector):
            self._remember(connector)
        else:
            await connector.execute_query_async(RECORD_VALUE, **self._arguments)

    @property
    def _arguments(self) -> dict[str, Any]:
        job = self.context.job
        return {"job_id": job.id, "worker_id": job.worker_id, "value": json.dumps(self.value)}

    def _remember(self, connector: InMemoryConnector) -> None:
        """Do as RECORD_VALUE, for tests."""
        row = connector.jobs[self.context.job.id or 0]
        entry = {"event": "returned", "final": True, "value": self.value}
        row["attempts_log"] = [*(row["attempts_log"] or []), entry]
