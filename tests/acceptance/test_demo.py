"""The demo is the promise to newcomers: one command, real jobs, a killed worker, nothing lost."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "demo"]


def value(table: str, name: str) -> int:
    found = re.search(rf"^{re.escape(name)} +([\d,]+)", table, re.MULTILINE)
    assert found, f"no row {name!r} in:\n{table}"
    return int(found[1].replace(",", ""))


@pytest.mark.timeout(120)
def test_demo_loses_nothing():
    # The other tests run on the same two cores.
    result = subprocess.run(
        [*COMMAND, "--patience", "90"], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr
    table = result.stdout
    files = value(table, "files of the standard library")
    assert files > 100
    assert value(table, "jobs done") == files
    assert value(table, "files analysed at least once") == files
    assert value(table, "retried") == files // 40
    assert value(table, "rescued") > 0
    assert value(table, "files lost") == 0
    assert value(table, "jobs left waiting or running") == 0
    assert "with SIGKILL while it held" in table
    assert "jobs per second" in table
    assert "p50 latency" in table


@pytest.mark.timeout(120)
def test_demo_interrupted_leaves_no_process():
    demo = subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        workers: list[int] = []
        for line in demo.stdout:
            if "worker processes" in line:
                workers = [int(number) for number in re.findall(r"\((\d+)\)", line)]
                break
        assert len(workers) == 2
        time.sleep(1)
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=40)
        assert demo.returncode == 130, output + errors
    finally:
        demo.kill()
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
