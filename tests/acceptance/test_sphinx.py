"""The Sphinx extension, in a real build."""

from __future__ import annotations

import subprocess
import sys

import pytest

CONF = """
import sys
sys.path.insert(0, {folder!r})
extensions = ["procrastinate.contrib.sphinx"]
"""

TASKS = '''
"""The tasks of a shop."""
import functools
import procrastinate

app = procrastinate.App(connector=procrastinate.testing.InMemoryConnector())

@app.task(queue="images")
def resize(path: str, *, width: int = 800) -> None:
    """Make an image smaller."""

@app.task(pass_context=True, name="another.name")
async def rotate(context, path: str) -> None:
    """Turn an image."""

def helper(a):
    """Is no task."""
'''

INDEX = """
Tasks
=====

.. automodule:: shop
   :members:

Alone
=====

.. autoprocrastinate_task:: shop.resize
   :no-index:
"""


@pytest.fixture
def built(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text(CONF.format(folder=str(source)))
    (source / "shop.py").write_text(TASKS)
    (source / "index.rst").write_text(INDEX)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", str(source), str(tmp_path / "built")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return (tmp_path / "built" / "index.txt").read_text()


def test_tasks_are_shown_as_functions(built):
    members, alone = built.split("Alone\n")
    assert "shop.resize(path: str, *, width: int = 800) -> None\n\n   Make an image smaller." in members
    assert "async shop.rotate(context, path: str) -> None\n\n   Turn an image." in members
    assert "shop.helper(a)\n\n   Is no task." in members
    assert "shop.resize(path: str, *, width: int = 800) -> None" in alone
    assert "class" not in built
