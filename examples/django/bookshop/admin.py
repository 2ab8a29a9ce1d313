"""The shop in the admin, beside the jobs."""

from django.contrib import admin

from bookshop.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """The orders."""

    list_display = ("id", "book", "customer", "is_confirmed", "created_at")
