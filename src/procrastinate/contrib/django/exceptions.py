"""The errors of the Django integration."""

from __future__ import annotations

from procrastinate.exceptions import ProcrastinateException, SyncConnectorConfigurationError


class DjangoNotReady(ProcrastinateException):
    """The app was used before Django had made it."""

    def __init__(self, method: str) -> None:
        """Explain that `method` was called too early."""
        super().__init__(
            f"Cannot call procrastinate.contrib.app.{method}() before the 'procrastinate.contrib.django' django app is "
            "ready. Call it later: in the ready() method of an AppConfig whose app stands after "
            "'procrastinate.contrib.django' in INSTALLED_APPS, or in the function named by PROCRASTINATE_ON_APP_READY."
        )


class ReadOnlyModel(ProcrastinateException):
    """The models of procrastinate are read-only."""

    def __init__(self) -> None:
        """Say what to use instead."""
        super().__init__(
            "The models of procrastinate are read-only: change jobs with app.job_manager, in the admin, or with "
            "`manage.py procrastinate`. In tests, PROCRASTINATE_READONLY_MODELS = False lifts this."
        )


class NoWorkerConnector(SyncConnectorConfigurationError, NotImplementedError):  # noqa: N818  as those it follows
    """A worker cannot run on Django's own connection: use `app.connector.get_worker_connector()`.

    It is both a NotImplementedError, for programs, and an error that ends a worker, for nothing would mend it.
    """
