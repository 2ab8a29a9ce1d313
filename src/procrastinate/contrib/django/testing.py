"""For tests that run jobs on Django's test database.

Tests that only look at what was deferred need no database: replace the connector of the app by a
`procrastinate.testing.InMemoryConnector`, with `app.replace_connector`.
"""

from __future__ import annotations

# Django has no types.
# pyright: basic
from django.test import TransactionTestCase
from typing_extensions import Unpack, override

from procrastinate import testing
from procrastinate.app import WorkerOptions
from procrastinate.connector import BaseConnector
from procrastinate.contrib.django import procrastinate_app

__all__ = ["WorkerTestCase", "delete_jobs", "run_jobs"]


def run_jobs(**options: Unpack[WorkerOptions]) -> None:
    """Run jobs until none is left, as a worker with these options would.

    What is to be seen by the jobs must be committed: with Django's TestCase, and with pytest-django's `db` fixture
    unless its transactions are real, nothing is.
    """
    once: WorkerOptions = {"wait": False, "install_signal_handlers": False, "listen_notify": False}
    procrastinate_app.current_app.run_worker(**{**once, **options})


def delete_jobs() -> None:
    """Delete all jobs and what belongs to them.

    Django empties only tables of models that it manages, so jobs would be there still in the tests that follow.
    """
    connector: BaseConnector = procrastinate_app.current_app.connector.get_sync_connector()
    if isinstance(connector, testing.InMemoryConnector):
        connector.reset()
        return
    tables = "procrastinate_jobs, procrastinate_periodic_defers, procrastinate_workers, procrastinate_chores"
    connector.execute_query(f"truncate {tables}")


class WorkerTestCase(TransactionTestCase):
    """A TransactionTestCase that can run jobs, and that leaves none behind."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(delete_jobs)

    def run_jobs(self, **options: Unpack[WorkerOptions]) -> None:
        """Run jobs until none is left, as a worker with these options would."""
        run_jobs(**options)
