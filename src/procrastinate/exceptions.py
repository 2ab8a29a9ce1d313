"""Every error that procrastinate raises on purpose.

::

    ProcrastinateException
    ├── TaskNotFound · TaskAlreadyRegistered · UnboundTaskError · FunctionPathError
    ├── MiddlewareKindMismatch
    ├── LoadFromPathError (also an ImportError)
    ├── CallerModuleUnknown · MovedElsewhere · MissingApp · RunTaskError
    ├── JobRetry · JobAborted
    ├── AlreadyEnqueued
    ├── InvalidTimestamp
    ├── AppNotOpen · SyncConnectorConfigurationError
    ├── WorkerStopped
    ├── EmbeddedPostgresError
    └── ConnectorException              the database (or what was sent to it) is at fault
        ├── UniqueViolation · NoResult
        ├── ConnectionLost              the same operation may work later
        ├── LockNotAvailable            somebody else holds the row
        ├── InvalidData                 PostgreSQL cannot store this value
        └── SchemaNotApplied            the tables are missing or do not fit this version
"""

from __future__ import annotations

import inspect
from typing import Any


class ProcrastinateException(Exception):  # noqa: N818  users know this name
    """Unexpected Procrastinate error."""

    def __init__(self, message: str | None = None) -> None:
        """Use `message`, or the class's own one-line description where none is given."""
        super().__init__(message or inspect.cleandoc(self.__doc__ or ""))


class TaskNotFound(ProcrastinateException):
    """Task cannot be imported."""


class TaskAlreadyRegistered(ProcrastinateException):
    """A task with this name was already registered."""


class UnboundTaskError(ProcrastinateException):
    """The task belongs to a blueprint that is not attached to an App: call `app.add_tasks_from(blueprint)` first."""


class FunctionPathError(ProcrastinateException):
    """No task name can be derived from this object: pass `name=` to the decorator."""


class MiddlewareKindMismatch(ProcrastinateException):
    """A sync middleware was given where an async one is needed, or the reverse."""


class LoadFromPathError(ImportError, ProcrastinateException):
    """App was not found at the provided path, or the path is not an App."""

    def __init__(self, message: str | None = None) -> None:
        """Use `message`, or the class's own one-line description where none is given."""
        super().__init__(message or inspect.cleandoc(self.__doc__ or ""))


class CallerModuleUnknown(ProcrastinateException):
    """The module that called could not be determined."""


class MovedElsewhere(ProcrastinateException):
    """The object has been moved elsewhere."""


class MissingApp(ProcrastinateException):
    """Missing app: name one with `--app path.to.app`, or in the environment variable PROCRASTINATE_APP."""


class RunTaskError(ProcrastinateException):
    """One or several tasks failed."""


class JobRetry(ProcrastinateException):
    """Carries the decision that a job must be retried."""

    def __init__(self, retry_decision: Any) -> None:
        """Keep `retry_decision`, a `procrastinate.RetryDecision`."""
        super().__init__()
        self.retry_decision = retry_decision


class JobAborted(ProcrastinateException):
    """Raise it in a task to end the job with status `aborted`."""


class AlreadyEnqueued(ProcrastinateException):
    """A job with the same queueing lock is already waiting."""


class InvalidTimestamp(ProcrastinateException):
    """The timestamp among the job's arguments is not the periodic timestamp that it is deferred for."""


class AppNotOpen(ProcrastinateException):
    """The app is not open: use `with app.open():` or `async with app.open_async():`, or keep it open: `app.open()`."""


class SyncConnectorConfigurationError(ProcrastinateException):
    """An async operation was asked of a connector that is sync only: use PsycopgConnector instead."""


class WorkerStopped(ProcrastinateException):
    """The worker ended because it could not do its work any longer."""


class EmbeddedPostgresError(ProcrastinateException):
    """The private PostgreSQL could not be started or used."""


class ConnectorException(ProcrastinateException):
    """Database error."""


class UniqueViolation(ConnectorException):
    """A unique constraint was violated."""

    def __init__(self, *args: Any, constraint_name: str | None, queueing_lock: str | None) -> None:
        """Keep the violated `constraint_name` and, if that is the reason, the `queueing_lock`."""
        super().__init__(*args)
        self.constraint_name = constraint_name
        self.queueing_lock = queueing_lock


class NoResult(ConnectorException):
    """One row was expected, none was found."""


class ConnectionLost(ConnectorException):
    """The connection to the database failed."""


class LockNotAvailable(ConnectorException):
    """Another transaction holds a row that this statement needs."""


class InvalidData(ConnectorException):
    """PostgreSQL cannot store this value."""


class SchemaNotApplied(ConnectorException):
    """The tables are missing: run `procrastinate schema --apply`."""
