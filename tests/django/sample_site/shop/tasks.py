"""The tasks of the shop."""

from asgiref.sync import sync_to_async
from django.db import connection, transaction

from procrastinate import exceptions
from procrastinate.contrib.django import app
from sample_site.shop.models import Order

connections_seen = []


@app.task
def ship(name):
    """Use the ORM in a thread, and keep the connection to look at later."""
    Order.objects.create(name=name)
    connections_seen.append(connection.connection)


@app.task
async def ship_async(name):
    await Order.objects.acreate(name=name)
    connections_seen.append(await sync_to_async(lambda: connection.connection)())


@app.task(retry=1, queue="sums", priority=3)
def divide(a, b):
    return a / b


@app.task
def defer_and_roll_back():
    """Defer a job in a transaction that comes to nothing."""
    try:
        with transaction.atomic():
            ship.defer(name="never")
            raise ValueError  # noqa: TRY301  what it is about
    except ValueError:
        pass


@app.task(pass_context=True)
def abort_itself(context):
    raise exceptions.JobAborted


@app.periodic(cron="0 0 1 1 *")
@app.task
def yearly(timestamp):
    pass
