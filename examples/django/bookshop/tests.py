"""Tests of the shop: `python manage.py test`."""

# ruff: noqa: PT009  the style of Django's own tests

from django.test import TestCase

from bookshop import tasks
from bookshop.models import Order
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.testing import WorkerTestCase
from procrastinate.testing import InMemoryConnector


class OrderTest(TestCase):
    """What is deferred by a request; nothing runs."""

    def test_an_order_has_its_jobs(self) -> None:
        """The order and its jobs are there together."""
        page = self.client.post("/", {"book": "The Cloud of Unknowing", "customer": "Ada"}, follow=True)
        self.assertContains(page, "Ordered: The Cloud of Unknowing for Ada.")
        order = Order.objects.get()
        self.assertEqual(order.confirmation.task_name, "bookshop.tasks.send_confirmation")
        self.assertEqual(ProcrastinateJob.objects.filter(waits_for="time").count(), 1)

    def test_no_order_no_job(self) -> None:
        """What is rolled back leaves no job."""
        page = self.client.post("/", {"book": "A Book that Nobody Has", "customer": "Ada"}, follow=True)
        self.assertContains(page, "no order, no job")
        self.assertFalse(Order.objects.exists())
        self.assertFalse(ProcrastinateJob.objects.exists())

    def test_without_the_database(self) -> None:
        """Jobs can be looked at in memory too."""
        connector = InMemoryConnector()
        with app.replace_connector(connector):
            tasks.send_confirmation.defer(order_id=1)
        self.assertEqual(connector.jobs[1]["args"], {"order_id": 1})


class WorkTest(WorkerTestCase):
    """What the jobs do."""

    def test_confirmations_are_sent(self) -> None:
        """The job marks the order."""
        self.client.post("/", {"book": "The Cloud of Unknowing", "customer": "Ada"})
        self.run_jobs()
        self.assertTrue(Order.objects.get().is_confirmed)
        self.assertContains(self.client.get("/"), "succeeded")
