"""A Sphinx extension: autodoc shows tasks as the functions that they are."""

from __future__ import annotations

from typing import Any

import sphinx.application
import sphinx.ext.autodoc
from typing_extensions import override

from procrastinate import tasks

__all__ = ["setup"]


class TaskDocumenter(sphinx.ext.autodoc.FunctionDocumenter):
    """Documents a task by its function: name, signature and docstring."""

    objtype = "procrastinate_task"
    directivetype = "function"
    # Before those for data and functions, which would take a task too.
    priority = 100

    @classmethod
    @override
    def can_document_member(cls, member: Any, membername: str, isattr: bool, parent: Any) -> bool:
        return isinstance(member, tasks.Task)

    @override
    def import_object(self, raiseerror: bool = False) -> bool:
        is_imported = super().import_object(raiseerror)
        found: Any = self.object
        if is_imported and isinstance(found, tasks.Task):
            self.object = found.func
        return is_imported


def setup(app: sphinx.application.Sphinx) -> dict[str, Any]:
    """Set up the extension; called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    # Since version 9 Sphinx asks documenters of extensions only if it is told so.
    if "autodoc_use_legacy_class_based" in app.config:
        app.config.autodoc_use_legacy_class_based = True
    app.add_autodocumenter(TaskDocumenter)
    return {"version": "1", "parallel_read_safe": True}
