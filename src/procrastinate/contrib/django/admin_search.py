"""What can be typed into the search box of the jobs."""

from __future__ import annotations

# Django has no types.
# pyright: basic, reportReturnType=false, reportOperatorIssue=false
import json
from typing import Any

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils.text import smart_split, unescape_string_literal

HELP = (
    "An id (or #id, and nothing else), a part of a task's name, a lock, or an argument: user=12, address.city=Berlin, "
    "or a JSON object. Several words must all fit."
)
LARGEST_ID = 2**63 - 1


def search(queryset: Any, text: str) -> Any:
    """Return the jobs that fit all words of a search."""
    whole = _json_object(text)
    if whole is not None:
        return queryset.filter(args__contains=whole)
    # Only where it is needed: the planner may not find it cheap.
    queryset = queryset.alias(args_text=Cast("args", TextField()))
    for word in smart_split(text):
        queryset = queryset.filter(_condition(unescape_string_literal(word) if word[0] in "\"'" else word))
    return queryset


def _condition(word: str) -> Q:
    path, equals, value = word.partition("=")
    if equals and path:
        condition = Q()
        for each in _readings(value):
            condition |= Q(args__contains=_nested(path.split("."), each))
        return condition
    number = word.removeprefix("#")
    is_id = Q(id=int(number)) if number.isdecimal() and int(number) <= LARGEST_ID else Q(id=None)
    if number != word and number.isdecimal():
        return is_id
    return (
        is_id
        | Q(task_name__icontains=word)
        | Q(lock__icontains=word)
        | Q(queueing_lock__icontains=word)
        | Q(args_text__icontains=word)
    )


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _readings(text: str) -> list[Any]:
    """Return what a value may be: the JSON that it is, and the text that it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return [value, text] if value != text else [text]


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value
