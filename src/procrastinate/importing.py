"""Modules by their names: which one called, and what is in them."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Iterable
from typing import Any, TypeVar, cast, overload

from procrastinate import exceptions

logger = logging.getLogger(__name__)

T = TypeVar("T")


@overload
def load_from_path(path: str, allowed_type: type[T]) -> T: ...


@overload
def load_from_path(path: str, allowed_type: None = None) -> Any: ...


def load_from_path(path: str, allowed_type: type[Any] | None = None) -> Any:
    """Import `package.module.name` and return it.

    Raises LoadFromPathError if it is not there or not of `allowed_type`, and if the module fails, which is its cause.
    """
    module_name, dot, name = path.rpartition(".")
    if not dot or not module_name:
        raise exceptions.LoadFromPathError(f"{path} is not a valid path: write module.attribute")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{error}" if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise exceptions.LoadFromPathError(f"{module_name} could not be imported: {reason}") from error
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise exceptions.LoadFromPathError(f"{path} was not found: {error}") from error
    if allowed_type is not None and not isinstance(found, allowed_type):
        raise exceptions.LoadFromPathError(
            f"Object at {path} is not of type {allowed_type.__name__} but {type(found).__name__}"
        )
    return found


def import_all(paths: Iterable[str]) -> None:
    """Import modules by their names; their errors are raised as they are."""
    for path in paths:
        logger.debug("Importing module %s", path, extra={"action": "import_module", "module_name": path})
        importlib.import_module(path)


def caller_module_name(prefix: str = "procrastinate") -> str:
    """Return the name of the module that called, past those of the package `prefix`.

    Raises CallerModuleUnknown if there is none.
    """
    frame = inspect.currentframe()
    while frame is not None:
        name = cast("str", frame.f_globals.get("__name__", ""))
        if name != prefix and not name.startswith(f"{prefix}."):
            break
        frame = frame.f_back
    else:
        name = ""
    if not name:
        raise exceptions.CallerModuleUnknown
    return name
