"""The guide shows the examples as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n# (\S+/\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "guides" / "frameworks.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "code"), BLOCKS, ids=[file for file, _ in BLOCKS])
def test_what_the_guide_shows_is_in_the_example(file, code):
    assert code in (ROOT / file).read_text(encoding="utf-8")


def test_each_framework_is_shown():
    assert {file for file, _ in BLOCKS} >= {"examples/fastapi/shop.py", "examples/flask/shop.py"}
