"""What a database has under our name when all migrations are applied, and how another one differs.

`catalog.json` holds it, written by `scripts/describe_schema.py` from a database with the migrations; a test compares.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Catalog: TypeAlias = Mapping[tuple[str, str], str]

# What users may add to our tables without changing what our statements do.
_HARMLESS = ("column", "sequence", "table", "type", "view")
_OURS = ("procrastinate_", "idx_procrastinate_")


@functools.cache
def expected_catalog() -> Catalog:
    """Return the definitions that this version expects, by kind and name."""
    text = (importlib.resources.files("procrastinate.store") / "catalog.json").read_text(encoding="utf-8")
    rows: list[Any] = json.loads(text)
    return {(kind, name): definition for kind, name, definition in rows}


def compare_catalogs(expected: Catalog, found: Catalog) -> Iterator[str]:
    """Give a line for each difference. What others added counts only if it bears our name and might act."""
    for key in sorted(expected.keys() | found.keys()):
        kind, name = key
        if key not in found:
            yield f"missing: {kind} {name}"
        elif key not in expected:
            table, _, own_name = name.rpartition(".")
            # A table that was kept aside keeps its indexes and constraints.
            is_ours = own_name.startswith(_OURS) and (not table or ("table", table) in expected)
            if is_ours and kind not in _HARMLESS:
                yield f"unexpected: {kind} {name}"
        elif expected[key] != found[key]:
            yield f"different: {kind} {name} is {found[key]!r} instead of {expected[key]!r}"
