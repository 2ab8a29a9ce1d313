"""What a drain asks of the server, counted by the server itself."""

from __future__ import annotations

import pytest

from bench import runs
from bench.contenders import OURS
from bench.stand import Stand

JOBS = 10_000


@pytest.mark.parametrize("keep", [True, False])
def test_costs_per_job(stand: Stand, keep) -> None:
    measured = runs.drain(stand, OURS, JOBS, keep=keep)
    assert measured["rate"] == pytest.approx(JOBS / measured["seconds"])
    # Outside a caller's transaction each statement commits: one for a hundred jobs, and on a busy machine some more,
    # those of start and stop included.
    assert 0 < measured["commits"] <= 0.02
    # Claimed, and finished or deleted.
    assert measured["dead"] == pytest.approx(2, abs=0.05)
    assert 0 < measured["wal"] <= (1_000 if keep else 700)
