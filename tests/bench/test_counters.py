"""What a drain asks of the server, counted by the server itself."""

from __future__ import annotations

import pytest

from bench import runs
from bench.contenders import OURS
from bench.stand import Stand

JOBS = 20_000


@pytest.mark.parametrize("keep", [True, False])
def test_costs_per_job(stand: Stand, keep) -> None:
    # Whatever else the machine does can only add commits, so the best of three drains tells what the worker asks for.
    measured = min((runs.drain(stand, OURS, JOBS, keep=keep) for _ in range(3)), key=lambda drain: drain["commits"])
    assert measured["rate"] == pytest.approx(JOBS / measured["seconds"])
    # Outside a caller's transaction each statement commits: one for a hundred jobs, those of start and stop included.
    assert 0 < measured["commits"] <= 0.01
    # Claimed, and finished or deleted.
    assert measured["dead"] == pytest.approx(2, abs=0.05)
    assert 0 < measured["wal"] <= (1_000 if keep else 700)
