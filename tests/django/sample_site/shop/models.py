"""The models of the shop."""

from django.db import models


class Order(models.Model):
    name = models.CharField(max_length=100)
    job = models.ForeignKey(
        "procrastinate.ProcrastinateJob",
        on_delete=models.SET_NULL,
        null=True,
        db_constraint=False,
        related_name="orders",
    )

    def __str__(self):
        return self.name
