"""What the connector without a database promises beyond the operations."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil

import pytest

import procrastinate
from procrastinate import exceptions
from procrastinate.jobs import Job
from procrastinate.store import jobs, memory, tables, workers
from procrastinate.store.channels import ANY_QUEUE, channels_for
from procrastinate.store.operation import Operation
from procrastinate.store.postgres import JsonText
from procrastinate.testing import InMemoryConnector

JOB = Job(queue="q", task_name="t", lock="x", queueing_lock=None, task_kwargs={"a": (1, 2)})


def all_operations(base=Operation):
    """Every operation that has an SQL file to answer it."""
    for module in pkgutil.walk_packages(procrastinate.store.__path__, "procrastinate.store."):
        importlib.import_module(module.name)
    for operation in base.__subclasses__():
        yield from all_operations(operation)
        if not operation.__name__.startswith("_"):
            yield operation


# In memory there is no catalog to look at.
ABOUT_THE_CATALOG = {"InspectTables", "ReadCatalog"}


def test_every_operation_is_handled():
    importlib.import_module("procrastinate.store")
    dispatcher = memory.MemoryStore.__dict__["_rows"].dispatcher
    unknown = [kind.__name__ for kind in all_operations() if dispatcher.dispatch(kind) is dispatcher.dispatch(object)]
    assert set(unknown) <= ABOUT_THE_CATALOG


async def test_check_connection(store):
    assert await store.ask(tables.CheckConnection())
    if isinstance(store.connector, InMemoryConnector):
        store.connector.table_exists = False
        assert not await store.ask(tables.CheckConnection())


def test_what_users_look_at():
    connector = InMemoryConnector()
    with pytest.raises(exceptions.ConnectorException, match="SQL"):
        connector.execute_query("select 1")
    worker_id = connector.run(workers.RegisterWorker())
    connector.run(jobs.DeferJobs(jobs=[JOB]))
    assert connector.jobs[1]["args"] == {"a": [1, 2]}
    connector.run(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=1))
    assert connector.current_locks == {"x"}
    assert next(connector.job_counter) == 2
    assert [event["type"] for event in connector.events[1]] == ["deferred", "started"]
    assert [name for name, _ in connector.queries] == ["register_worker", "defer_jobs", "fetch_jobs"]
    connector.open()
    assert connector.states == ["open"]
    connector.reset()
    assert (connector.jobs, connector.events, connector.workers, connector.queries) == ({}, {}, {}, [])


def test_json_of_the_users_choice():
    connector = InMemoryConnector(
        json_dumps=lambda value: json.dumps(value, default=str), json_loads=lambda _: {"b": 2}
    )
    connector.run(jobs.DeferJobs(jobs=[JOB.evolve(task_kwargs={"a": object})]))
    assert connector.jobs[1]["args"] == {"a": str(object)}
    assert connector.run(jobs.ListJobs())[0].task_kwargs == {"b": 2}


async def test_notifications(listening_store):
    heard = asyncio.Queue()
    listening = asyncio.Event()

    async def on_notification(*, channel, payload):
        await heard.put((channel, json.loads(payload)))

    channels = [ANY_QUEUE, *channels_for(["q"])]
    connector = listening_store.connector
    listener = asyncio.create_task(connector.listen_notify(on_notification, channels, listening.set))
    await asyncio.wait([listener, asyncio.create_task(listening.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not listener.done(), listener.exception()
    inserted = {"type": "job_inserted", "job_id": 1, "scheduled": False}
    # From another thread, as a task that is no coroutine would.
    await asyncio.to_thread(connector.get_sync_connector().run, jobs.DeferJobs(jobs=[JOB, JOB]))
    assert [await heard.get(), await heard.get()] == [(channel, inserted) for channel in channels]
    worker_id = await listening_store.worker()
    await listening_store.ask(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=1))
    await listening_store.ask(jobs.CancelJob(job_id=1, abort=True, delete=False))
    assert await heard.get() == (channels[0], {"type": "abort_job_requested", "job_id": 1})
    listener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listener


def test_the_json_functions_are_not_called_where_nothing_is_stored():
    assert memory.MemoryStore(JsonText(pytest.fail)).answer(workers.RegisterWorker()) == 1
