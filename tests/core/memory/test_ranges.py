"""Range set: compared with sets of integers."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from offloop.core.memory.ranges import RangeSet


def ranges_of(*ranges: tuple[int, int]) -> RangeSet:
    made = RangeSet()
    for start, end in ranges:
        made.add(start, end)
    return made


def test_a_new_set_is_empty() -> None:
    empty = RangeSet()
    assert (list(empty), empty.total) == ([], 0)
    assert empty.overlaps(0, 10) == []
    assert empty.gaps(0, 10) == [(0, 10)]


def test_ranges_that_touch_become_one() -> None:
    made = ranges_of((0, 4), (8, 12), (4, 8))
    assert (list(made), made.total) == ([(0, 12)], 12)


def test_ranges_that_do_not_touch_stay_apart_and_sorted() -> None:
    made = ranges_of((20, 30), (0, 4), (10, 12))
    assert (list(made), made.total) == ([(0, 4), (10, 12), (20, 30)], 16)


def test_removing_nothing_changes_nothing() -> None:
    made = ranges_of((0, 4), (6, 8))
    for nowhere in (0, 2, 4, 5, 8, 9):
        made.remove(nowhere, nowhere)
    assert (list(made), made.total) == ([(0, 4), (6, 8)], 6)


def test_adding_over_several_ranges_swallows_them() -> None:
    made = ranges_of((0, 4), (6, 8), (10, 12), (20, 22))
    made.add(3, 11)
    assert (list(made), made.total) == ([(0, 12), (20, 22)], 14)


def test_adding_a_present_range_changes_nothing() -> None:
    made = ranges_of((0, 10))
    made.add(2, 5)
    assert (list(made), made.total) == ([(0, 10)], 10)


def test_removing_from_the_middle_leaves_both_ends() -> None:
    made = ranges_of((0, 10))
    made.remove(4, 6)
    assert (list(made), made.total) == ([(0, 4), (6, 10)], 8)


def test_removing_over_several_ranges_cuts_the_outer_ones() -> None:
    made = ranges_of((0, 4), (6, 8), (10, 14))
    made.remove(2, 12)
    assert (list(made), made.total) == ([(0, 2), (12, 14)], 4)


def test_removing_an_absent_range_changes_nothing() -> None:
    made = ranges_of((0, 4))
    made.remove(4, 9)
    assert (list(made), made.total) == ([(0, 4)], 4)


def test_overlaps_and_gaps_share_out_a_range_between_them() -> None:
    made = ranges_of((2, 4), (6, 8))
    assert made.overlaps(3, 7) == [(3, 4), (6, 7)]
    assert made.gaps(3, 7) == [(4, 6)]
    assert made.gaps(0, 10) == [(0, 2), (4, 6), (8, 10)]
    assert made.gaps(2, 4) == []


def test_a_set_may_be_changed_while_it_is_walked() -> None:
    made = ranges_of((0, 2), (4, 6))
    for start, end in made:
        made.remove(start, end)
    assert (list(made), made.total) == ([], 0)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_plain_set_of_integers(seed: int) -> None:
    chance = random.Random(seed)
    made, model = RangeSet(), set[int]()
    for _ in range(300):
        start = chance.randrange(60)
        end = start + chance.randrange(1, 20)
        if chance.random() < 0.5:
            made.add(start, end)
            model.update(range(start, end))
        else:
            made.remove(start, end)
            model.difference_update(range(start, end))
        held = list(made)
        assert {n for low, high in held for n in range(low, high)} == model
        assert made.total == len(model)
        assert all(before[1] < after[0] for before, after in pairwise(held))
        low, high = sorted(chance.sample(range(80), 2))
        assert {n for a, b in made.overlaps(low, high) for n in range(a, b)} == model & set(range(low, high))
        assert {n for a, b in made.gaps(low, high) for n in range(a, b)} == set(range(low, high)) - model
