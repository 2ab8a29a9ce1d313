"""The tasks of a Django project's app, among them those that were declared with Django's own `@task`."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from procrastinate.tasks import Task


class ImportedTasks(dict[str, Task[..., Any]]):
    """Finds tasks of `django.tasks` by the path that is their name, whether or not their module was imported."""

    def __missing__(self, name: str) -> Task[..., Any]:
        # Only who runs a job of this name comes here; most projects have no such tasks, and need not import any of it.
        try:
            from procrastinate.contrib.django import task_backend  # noqa: PLC0415
        except ImproperlyConfigured:  # there is no such framework
            raise KeyError(name) from None
        task = task_backend.runner(name)
        if task is None:
            raise KeyError(name)
        return self.setdefault(name, task)
