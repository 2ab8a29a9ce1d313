"""The fault suite in its short form: each fault that is quick enough, once. `python -m faults` has all of them."""

from __future__ import annotations

import pytest

from faults.suite import Ground, Impossible, Scenario, all_scenarios


@pytest.fixture(scope="module")
def ground():
    with Ground.ready() as ground:
        yield ground


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "scenario", [each for each in all_scenarios().values() if each.in_short], ids=lambda scenario: scenario.name
)
def test_promises_hold(ground: Ground, scenario: Scenario) -> None:
    try:
        outcome = ground.trial(scenario, seed=0, is_long=False)
    except Impossible as reason:
        pytest.skip(str(reason))
    assert not outcome.broken
    assert not outcome.lost
