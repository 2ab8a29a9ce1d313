"""What users' own tests can use."""

import pytest
from sample_site.shop import tasks
from sample_site.shop.models import Order

from procrastinate import App
from procrastinate import testing as memory
from procrastinate.contrib.django import testing
from procrastinate.contrib.django.models import ProcrastinateJob


@pytest.mark.usefixtures("db")
class TestShop(testing.WorkerTestCase):
    """Django's own kind of test."""

    def test_jobs_run(self):
        tasks.ship.defer(name="x")
        self.run_jobs()
        assert Order.objects.get().name == "x"
        assert ProcrastinateJob.objects.get().status == "succeeded"

    def test_jobs_of_some_queues_run(self):
        tasks.ship.defer(name="x")
        self.run_jobs(queues=["other"])
        assert ProcrastinateJob.objects.get().status == "todo"


def test_nothing_is_left_behind(db, app):
    case = TestShop("test_jobs_run")
    case.run(result := case.defaultTestResult())
    assert result.wasSuccessful(), result.errors
    assert not ProcrastinateJob.objects.exists()
    assert not app.connector.execute_query_all("select from procrastinate_workers")


def test_in_memory(app):
    connector = memory.InMemoryConnector()
    with app.replace_connector(connector):
        tasks.divide.defer(a=1, b=2)
        testing.run_jobs()
        assert [row["status"] for row in connector.jobs.values()] == ["succeeded"]
        testing.delete_jobs()
    assert not connector.jobs


def test_the_app_has_a_path_for_the_pytest_plugin(app):
    assert App.from_path("procrastinate.contrib.django.procrastinate_app.current_app") is app
