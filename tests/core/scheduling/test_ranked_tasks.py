"""Ranked tasks: compared with a sorted list."""

from __future__ import annotations

import random

import pytest

from offloop.core.scheduling.ranked_tasks import RankedTasks


def test_the_lowest_rank_is_first_and_of_equal_ranks_the_lower_number() -> None:
    ranking = RankedTasks()
    for rank, task_id in ((2.0, 1), (1.0, 9), (1.0, 3), (-1.0, 5)):
        ranking.add(rank, task_id, 0.5)
    assert list(ranking) == [5, 3, 9, 1]
    assert (ranking.first, len(ranking), ranking.cost_s) == (5, 4, 2.0)


def test_the_cost_ahead_is_that_of_all_lower_ranks_and_of_no_equal_one() -> None:
    ranking = RankedTasks()
    for task_id, rank in enumerate((1.0, 2.0, 2.0, 3.0)):
        ranking.add(rank, task_id, rank)
    assert [ranking.ahead_s(rank) for rank in (0.0, 1.0, 2.0, 2.5, 3.0, 9.0)] == [0, 0, 1, 5, 5, 8]


def test_no_cost_is_ahead_in_an_empty_list() -> None:
    assert (RankedTasks().ahead_s(1.0), RankedTasks().cost_s, len(RankedTasks())) == (0.0, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_however_many_come_and_go_it_is_a_sorted_list(seed: int) -> None:
    chance = random.Random(seed)
    ranking = RankedTasks()
    entries: list[tuple[float, int, float]] = []
    for task_id in range(5000):
        entry = (float(chance.randrange(300)), task_id, float(chance.randrange(9)))
        ranking.add(*entry)
        entries.append(entry)
        if chance.random() < 0.4:
            ranking.remove(*entries.pop(chance.randrange(len(entries))))
    while entries:
        entries.sort()
        assert list(ranking) == [task_id for _, task_id, _ in entries]
        assert ranking.first == entries[0][1]
        assert ranking.cost_s == pytest.approx(sum(cost for _, _, cost in entries))
        middle = entries[len(entries) // 2][0]
        assert ranking.ahead_s(middle) == pytest.approx(sum(cost for rank, _, cost in entries if rank < middle))
        for _ in range(min(600, len(entries))):
            ranking.remove(*entries.pop(chance.randrange(len(entries))))
    assert (len(ranking), ranking._pieces) == (0, [])
