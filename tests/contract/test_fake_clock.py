"""`FakeClock`: time passes only when a test moves it."""

from __future__ import annotations

import pytest

from offloop.testing import FakeClock


def test_the_time_changes_only_when_it_is_moved() -> None:
    clock = FakeClock(5.0)
    assert (clock(), clock.now) == (5.0, 5.0)
    assert clock.advance(1.5) == 6.5
    assert clock.advance_to(8.0) == clock() == clock.now == 8.0


@pytest.mark.parametrize("seconds", [-0.1, float("nan")])
def test_time_never_goes_back(seconds: float) -> None:
    clock = FakeClock(5.0)
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(seconds)
    assert clock() == 5.0
