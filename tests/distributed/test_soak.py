"""A few of the cycles of soak.py: runs that signals and kills end, and that go on from what was saved."""

from __future__ import annotations

from tests.distributed.soak import soak


def test_runs_that_are_ended_at_any_instant_leave_nothing_and_go_on_exactly():
    assert soak([*range(5), 10, 24], seed=0) == []  # the last two hung once, and ended with an error
