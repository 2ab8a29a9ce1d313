"""The orders."""

from typing import ClassVar

from django.db import models


class Order(models.Model):
    """An order of a book."""

    book = models.CharField(max_length=200)
    customer = models.CharField(max_length=200)
    is_confirmed = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # Jobs are deleted by workers and by maintenance, not by Django: no constraint may stand in their way.
    confirmation = models.ForeignKey(
        "procrastinate.ProcrastinateJob",
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        db_constraint=False,
        related_name="orders",
    )

    class Meta:
        """The newest first."""

        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        """The book, and who wants it."""
        return f"{self.book} for {self.customer}"
