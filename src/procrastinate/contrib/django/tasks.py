"""The backend for Django's Tasks framework: `procrastinate.contrib.django.tasks.ProcrastinateBackend`.

::

    TASKS = {"default": {"BACKEND": "procrastinate.contrib.django.tasks.ProcrastinateBackend"}}

It serves `django.tasks` (Django 6.0 and later) and, on older versions, its backport `django_tasks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procrastinate.contrib.django.task_backend import ProcrastinateBackend

__all__ = ["ProcrastinateBackend"]

if not TYPE_CHECKING:
    # Not at the top: as a module called "tasks" this one is imported in every project, with or without the framework.

    def __getattr__(name: str) -> Any:
        """Import the backend when it is asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from procrastinate.contrib.django import task_backend  # noqa: PLC0415  see above

        return task_backend.ProcrastinateBackend
