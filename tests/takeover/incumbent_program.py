"""A program of a user of the other implementation; its own package runs it, in an environment of its own.

    python incumbent_program.py schema | django | jobs | work | defer

The database is the one that the variable DSN names.
"""

# ruff: noqa: T201, PLC0415  its output is read, and Django is imported only where it is used

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys

import procrastinate
from procrastinate import exceptions

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DSN"]))


@app.task(queue="q", name="add")
def add(**kwargs):
    return len(kwargs)


@app.task(queue="q", name="fails")
def fails():
    raise ValueError


@app.task(queue="q", name="flaky", retry=procrastinate.RetryStrategy(max_attempts=2))
def flaky():
    raise ValueError


@app.task(queue="q", name="aborts")
def aborts():
    raise exceptions.JobAborted


@app.task(queue="hang", name="hangs")
async def hangs():
    print("running", flush=True)
    await asyncio.sleep(3600)


async def work(queue):
    await app.run_worker_async(wait=False, queues=[queue], install_signal_handlers=False, listen_notify=False)


async def make_jobs():
    """Make jobs in every state, and return their ids by what they are."""
    manager = app.job_manager
    found = {
        "succeeded": await add.defer_async(a=1),
        "failed": await fails.defer_async(),
        "failed after retries": await flaky.defer_async(),
        "aborted": await aborts.defer_async(),
        "retried by hand": await fails.defer_async(),
    }
    await work("q")
    await manager.retry_job_by_id_async(
        found["retried by hand"],
        retry_at=datetime.datetime.now(datetime.timezone.utc),  # noqa: UP017  its own Python
    )
    await work("q")
    found["cancelled"] = await add.configure(schedule_in={"days": 30}).defer_async()
    await manager.cancel_job_by_id_async(found["cancelled"])
    found["cancelled with abort"] = await add.defer_async()
    await manager.cancel_job_by_id_async(found["cancelled with abort"], abort=True)
    found["waiting"] = await add.defer_async(x="é")
    found["scheduled"] = await add.configure(schedule_in={"days": 30}).defer_async()
    found["low"] = await add.configure(lock="L").defer_async()
    found["high"] = await add.configure(lock="L", priority=7).defer_async()
    found["queueing lock"] = await add.configure(queueing_lock="Q").defer_async()
    found["long queue"] = await add.configure(queue="q" * 40).defer_async()
    job = add.configure(task_kwargs={"timestamp": 100}).job
    found["periodic"] = await manager.defer_periodic_job(job=job, periodic_id="p", defer_timestamp=100)
    found["running"] = await hangs.configure(lock="R").defer_async()
    found["behind the running"] = await add.configure(lock="R").defer_async()
    return found


async def main(command):
    async with app.open_async():
        match command:
            case "schema":
                await app.schema_manager.apply_schema_async()
            case "jobs":
                print(json.dumps(await make_jobs()))
            case "work":
                await app.run_worker_async(queues=["hang"], listen_notify=False)
            case "defer":
                print(await add.defer_async(late=True))


def migrate():
    from django.conf import settings
    from django.core.management import call_command
    from psycopg.conninfo import conninfo_to_dict

    import django

    parts = conninfo_to_dict(os.environ["DSN"])
    names = {"dbname": "NAME", "host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    database = {names[name]: value for name, value in parts.items() if name in names}
    settings.configure(
        INSTALLED_APPS=["procrastinate.contrib.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **database}},
    )
    django.setup()
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    if sys.argv[1] == "django":
        migrate()
    else:
        asyncio.run(main(sys.argv[1]))
