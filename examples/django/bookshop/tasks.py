"""What workers do. The module is found by its name."""

import logging

from bookshop.models import Order
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

logger = logging.getLogger(__name__)


@app.task(queue="mail", retry=RetryStrategy(max_attempts=2, wait=2))
def send_confirmation(order_id: int) -> None:
    """Send a mail; a plain function runs in a thread, with the ORM as in a view."""
    order = Order.objects.get(id=order_id)
    if order.customer == "nobody":
        raise ValueError("There is no address to send this to")
    logger.info("Dear %s, we have received your order of %s", order.customer, order.book)
    Order.objects.filter(id=order_id).update(is_confirmed=True)


@app.task(queue="mail")
async def ask_for_review(order_id: int) -> None:
    """Send another mail; a coroutine function uses the ORM's async methods."""
    order = await Order.objects.aget(id=order_id)
    logger.info("Dear %s, how did you like %s?", order.customer, order.book)


@app.periodic(cron="*/5 * * * *")
@app.task(lock="report", queueing_lock="report")
def report(timestamp: int) -> None:
    """Report every five minutes; never twice at a time, and never with one waiting behind another."""
    logger.info("%s orders so far (tick %s)", Order.objects.count(), timestamp)
