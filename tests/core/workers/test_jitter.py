"""`Jitter`: amounts vary by up to a fifth, and differently for each seed."""

from __future__ import annotations

from itertools import pairwise

from offloop.core.workers.jitter import Jitter


def test_amounts_vary_by_a_fifth_at_most_in_both_directions() -> None:
    jitter = Jitter(1)
    amounts = [jitter.around(10.0) for _ in range(200)]
    assert all(8.0 <= amount <= 12.0 for amount in amounts)
    assert max(amounts) - min(amounts) > 2.0
    assert any(before != after for before, after in pairwise(amounts))


def test_limits_are_never_exceeded_and_at_most_a_fifth_lower() -> None:
    jitter = Jitter(1)
    limits = [jitter.below(10.0) for _ in range(200)]
    assert all(8.0 <= limit <= 10.0 for limit in limits)
    assert max(limits) - min(limits) > 1.0


def test_two_seeds_give_different_amounts() -> None:
    assert Jitter(1).around(10.0) != Jitter(2).around(10.0)
