"""Keeps the docstrings of properties and constants: napoleon takes what stands before a colon for a type."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

KINDS = {"attribute", "data", "property"}
BEFORE_NAPOLEON, AFTER_NAPOLEON = 400, 600

_kept: dict[tuple[str, str], list[str]] = {}


def keep(_app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Remember the lines."""
    if what in KINDS:
        _kept[what, name] = list(lines)


def restore(_app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Put them back."""
    if (what, name) in _kept:
        lines[:] = _kept.pop((what, name))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", keep, priority=BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", restore, priority=AFTER_NAPOLEON)
    return {"parallel_read_safe": True}
