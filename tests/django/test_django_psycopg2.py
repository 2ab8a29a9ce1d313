"""Django on psycopg2, where psycopg 3 cannot be imported: in a process of its own."""

import subprocess
import sys

import pytest

pytest.importorskip("psycopg2")

SCRIPT = """
import datetime, sys
sys.modules["psycopg"] = None
import django
django.setup()
from django.db import connection, transaction
from procrastinate import exceptions
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from sample_site.shop import tasks

assert connection.Database.__name__ == "psycopg2"
at = datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc)
one = tasks.divide.configure(lock="l", schedule_at=at).defer(a=1, b=0)
assert ProcrastinateJob.objects.get(id=one).args == {"a": 1, "b": 0}
assert app.job_manager.list_jobs(id=one)[0].scheduled_at == at
assert tasks.ship.batch_defer({"name": "a"}, {"name": "b"}) == [one + 1, one + 2]
with transaction.atomic():
    tasks.ship.configure(queueing_lock="q").defer(name="c")
    try:
        tasks.ship.configure(queueing_lock="q").batch_defer({"name": "a"}, {"name": "b"})
    except exceptions.AlreadyEnqueued:
        pass
    else:
        raise AssertionError
assert app.job_manager.run_job_now_by_id(one)
assert app.job_manager.cancel_job_by_id(one)
try:
    app.job_manager.get_job_status(12345)
except exceptions.NoResult:
    pass
else:
    raise AssertionError
try:
    tasks.ship.configure(lock="a\\0b").defer(name="x")
except exceptions.InvalidData:
    pass
else:
    raise AssertionError
row = app.connector.execute_query_one("select %(d)s as d, 100 % 7 as rest", d={"a": [1]})
assert row == {"d": {"a": [1]}, "rest": 2}, row
try:
    app.connector.execute_query("select nonsense")
except exceptions.ConnectorException as error:
    assert type(error.__cause__).__module__.startswith("psycopg2"), error.__cause__
else:
    raise AssertionError
print(type(app.connector.get_worker_connector()).__name__)
"""


def test_psycopg2(environment):
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "AiopgConnector\n"


def test_a_worker_on_aiopg(environment, db):
    script = """
import sys
sys.modules["psycopg"] = None
import django
django.setup()
from procrastinate.contrib.django.procrastinate_app import current_app
from sample_site.shop import tasks
from sample_site.shop.models import Order
tasks.ship.defer(name="x")
current_app.run_worker(wait=False, install_signal_handlers=False)
print(Order.objects.get().name)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "x\n"
