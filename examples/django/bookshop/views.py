"""The pages."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from bookshop import tasks
from bookshop.models import Order

BOOKS = ("The Cloud of Unknowing", "The Art of Procrastination", "A Book that Nobody Has")
OUT_OF_STOCK = BOOKS[-1]


class OutOfStockError(Exception):
    """Nobody has the book."""


def orders(request: HttpRequest) -> HttpResponse:
    """Show the orders, and take new ones."""
    if request.method == "POST":
        book, customer = request.POST["book"], request.POST["customer"]
        try:
            order = place_order(book, customer)
        except OutOfStockError:
            messages.error(request, f"Nobody has {book}: no order, no job.")
        else:
            messages.success(request, f"Ordered: {order}.")
        return redirect("orders")
    return render(
        request, "bookshop/orders.html", {"books": BOOKS, "orders": Order.objects.select_related("confirmation")}
    )


@transaction.atomic
def place_order(book: str, customer: str) -> Order:
    """Take an order; its jobs are deferred in the same transaction, so there are all of them or none."""
    order = Order.objects.create(book=book, customer=customer)
    order.confirmation_id = tasks.send_confirmation.defer(order_id=order.id)
    order.save()
    tasks.ask_for_review.configure(schedule_in={"days": 1}, lock=f"customer/{customer}").defer(order_id=order.id)
    if book == OUT_OF_STOCK:
        raise OutOfStockError(book)
    return order
