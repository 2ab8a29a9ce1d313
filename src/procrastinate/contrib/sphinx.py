"""An extension of Sphinx: autodoc shows tasks as the functions that they are, with signature and docstring."""

from __future__ import annotations

from typing import Any, ClassVar

from sphinx.application import Sphinx
from sphinx.ext.autodoc import FunctionDocumenter
from typing_extensions import override

from procrastinate.tasks import Task

__all__ = ["setup"]


class TaskDocumenter(FunctionDocumenter):
    """Documents a task: `.. autoprocrastinate_task:: module.task`, and wherever autodoc meets one."""

    objtype: ClassVar[str] = "procrastinate_task"
    directivetype: ClassVar[str] = "function"
    # Above those of data and functions, which would take a task for something else.
    priority: ClassVar[int] = FunctionDocumenter.priority + 10

    @classmethod
    @override
    def can_document_member(cls, member: Any, membername: str, isattr: bool, parent: Any) -> bool:
        return isinstance(member, Task)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    # From Sphinx 9 on, documenters of others are heeded only so.
    if "autodoc_use_legacy_class_based" in app.config:
        app.config.autodoc_use_legacy_class_based = True
    app.add_autodocumenter(TaskDocumenter)
    return {"version": "1", "parallel_read_safe": True}
