"""Procrastinate in a Django project: on Django's own connection, with its settings, models, admin and migrations.

Add `procrastinate.contrib.django` to INSTALLED_APPS, before the apps that have tasks.
"""

from __future__ import annotations

from procrastinate.contrib.django.procrastinate_app import DjangoApp, app
from procrastinate.contrib.django.utils import connector_params

__all__ = ["DjangoApp", "app", "connector_params"]
