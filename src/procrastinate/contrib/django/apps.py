"""The Django app: makes the procrastinate app once Django is ready."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from typing import cast

import django.apps
from typing_extensions import override

from procrastinate.app import App
from procrastinate.contrib.django import procrastinate_app


class ProcrastinateConfig(django.apps.AppConfig):
    """The app config of procrastinate."""

    name = "procrastinate.contrib.django"
    label = "procrastinate"
    verbose_name = "Procrastinate"

    @override
    def ready(self) -> None:
        """Make the app, with the tasks that were declared so far and those of all installed apps."""
        # Registers the system checks.
        from procrastinate.contrib.django import checks  # noqa: F401, PLC0415  needs Django's settings

        procrastinate_app.make_ready()

    @property
    def app(self) -> App:
        """The procrastinate app."""
        return cast("App", procrastinate_app.app)
