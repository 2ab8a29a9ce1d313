"""Brings databases of version 3 of the other project to this one's schema; new databases have it already."""

# Django has no types.
# pyright: basic

# ruff: noqa: RUF012  migrations are declared like that

from __future__ import annotations

from django.db import migrations

from procrastinate.contrib.django.migrations_utils import TakeOver


class Migration(migrations.Migration):
    """Changes the tables in place, and keeps every job."""

    # So that the tables are locked for moments only, and indexes are built beside those who use them.
    atomic = False

    dependencies = [("procrastinate", "0001_squashed_0041_post_retry_failed_job")]

    operations = [TakeOver()]
