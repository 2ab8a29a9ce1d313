"""Tasks of Django's framework, in a module that no worker imports by itself."""

from procrastinate.contrib.django.task_backend import PACKAGE
from sample_site.shop.models import Order

if PACKAGE == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task

contexts = []


class TroubleError(Exception):
    pass


@task
def add(a, b=1):
    return {"sum": a + b}


@task(priority=7, queue_name="slow")
async def order(name):
    await Order.objects.acreate(name=name)
    return [name]


@task
def nothing():
    pass


@task(takes_context=True)
def tell(context, word):
    contexts.append((context.attempt, context.task_result.id, word, context.task_result.status))


@task
def fail(kind):
    raise {"own": TroubleError, "builtin": ValueError}[kind]("so it is")


@task
async def chain():
    result = await add.aenqueue(1, 2)
    return result.id


@task
def strange():
    return object()


no_task = "just a text"
