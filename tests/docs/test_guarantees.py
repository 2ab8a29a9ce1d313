"""Each promise is held by tests that exist."""

from __future__ import annotations

import ast
import re

import pytest
from page_runner import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
# The sections that promise something, by their titles.
SECTIONS = {text.splitlines()[0]: text for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
NAMED = re.findall(r"^- `(\S+)::(\w+)`$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda text: text.rpartition("/")[2])
def test_the_test_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
    assert name.startswith("test_") or "/scenarios/" in file


def test_every_promise_has_tests() -> None:
    assert len(NAMED) == len(set(NAMED)) > 50
    assert len(NAMED) == PAGE.count("\n- ")
    for title, text in SECTIONS.items():
        promises = text.count("\n**")
        groups = len(re.findall(r"\n\n- `", text))
        assert promises == groups or title == "The faults", title
