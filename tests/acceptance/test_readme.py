"""What the README shows does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = Path(sys.executable).parent


def run(arguments: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True
    )


@pytest.mark.timeout(90)
def test_the_ten_lines(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(PYTHON_BLOCKS[0])
    assert "Hello, Ada!" in run([sys.executable, "hello.py"], tmp_path).stdout


@pytest.mark.timeout(120)
def test_the_quick_start(tmp_path: Path, empty_database: str) -> None:
    (tmp_path / "tasks.py").write_text(PYTHON_BLOCKS[1])
    quick_start = README[README.index("## Quick start") : README.index("## What happens")]
    commands = [line[2:].split() for line in quick_start.splitlines() if line.startswith("$ procrastinate --app")]
    assert [command[3] for command in commands] == ["schema", "defer", "worker"]
    where = {"DATABASE_URL": empty_database, "PYTHONPATH": "."}
    for command in commands[:2]:
        run(command, tmp_path, **where)
    run([sys.executable, "-c", PYTHON_BLOCKS[2]], tmp_path, **where)
    worker = run([*commands[2], "--one-shot"], tmp_path, **where)
    assert worker.stdout.splitlines() == ["Welcome, ada@example.org", "Welcome, grace@example.org"]
