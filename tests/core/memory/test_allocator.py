"""Where a block goes: fewest new pages first, then the tightest hole, then the lowest address."""

from __future__ import annotations

import pytest

from offloop.core.memory.allocator import PAGE_NBYTES, SegmentAllocator, pages

P = PAGE_NBYTES


@pytest.mark.parametrize(("nbytes", "whole"), [(0, 1), (1, 1), (P - 1, 1), (P, 1), (P + 1, 2), (10 * P, 10)])
def test_pages_rounds_up_to_at_least_one(nbytes: int, whole: int) -> None:
    assert pages(nbytes) == whole * P


def test_a_new_segment_is_free_but_for_what_it_keeps() -> None:
    segment = SegmentAllocator(10 * P, keep=2 * P)
    assert segment._free.total == 8 * P
    assert segment.reserved.total == 0
    assert segment.allocate(P) == 2 * P


def test_a_segment_can_be_given_out_whole_and_no_further() -> None:
    segment = SegmentAllocator(4 * P)
    assert segment.allocate(4 * P) == 0
    assert segment.allocate(P) is None
    segment.free(0, 4 * P)
    assert segment.allocate(4 * P) == 0


def test_what_fits_in_no_hole_is_not_given_although_enough_is_free() -> None:
    segment = SegmentAllocator(4 * P)
    offsets = [segment.allocate(P) for _ in range(4)]
    assert offsets == [0, P, 2 * P, 3 * P]
    segment.free(0, P)
    segment.free(2 * P, P)
    assert segment._free.total == 2 * P
    assert segment.allocate(2 * P) is None
    assert segment._free.total == 2 * P


def holes(segment: SegmentAllocator, *wanted: tuple[int, int]) -> None:
    """Take everything, then free those ranges."""
    segment.allocate(segment.nbytes)
    for start, end in wanted:
        segment.free(start, end - start)


def test_the_tightest_of_equal_holes_is_taken() -> None:
    segment = SegmentAllocator(20 * P)
    holes(segment, (0, 6 * P), (8 * P, 11 * P), (13 * P, 18 * P))
    assert segment.allocate(3 * P) == 8 * P


def test_a_hole_with_pages_is_taken_before_a_tighter_one_without() -> None:
    segment = SegmentAllocator(20 * P)
    segment.reserved.add(8 * P, 16 * P)
    holes(segment, (0, 2 * P), (8 * P, 16 * P))
    assert segment.allocate(2 * P) == 8 * P


def test_the_hole_that_needs_the_fewest_new_pages_is_taken() -> None:
    segment = SegmentAllocator(20 * P)
    segment.reserved.add(0, P)
    segment.reserved.add(8 * P, 10 * P)
    holes(segment, (0, 4 * P), (8 * P, 12 * P))
    assert segment.allocate(3 * P) == 8 * P


def test_of_all_equal_holes_the_lowest_is_taken() -> None:
    segment = SegmentAllocator(20 * P)
    holes(segment, (12 * P, 14 * P), (4 * P, 6 * P))
    assert segment.allocate(P) == 4 * P


@pytest.mark.parametrize("part", [(0, 4), (1, 2), (3, 5)])
def test_freeing_what_is_free_raises_and_changes_nothing(part: tuple[int, int]) -> None:
    segment = SegmentAllocator(8 * P)
    segment.allocate(8 * P)
    segment.free(0, 4 * P)
    start, end = part
    with pytest.raises(ValueError, match="is free already"):
        segment.free(start * P, (end - start) * P)
    assert segment._free.total == 4 * P


def test_pages_stay_when_a_range_is_freed() -> None:
    segment = SegmentAllocator(8 * P)
    segment.allocate(2 * P)
    segment.reserved.add(0, 2 * P)
    assert segment.spare_pages() == []
    segment.free(0, 2 * P)
    assert segment.reserved.total == 2 * P
    assert segment.spare_pages() == [(0, 2 * P)]


def test_spare_pages_are_those_that_no_block_uses_largest_first() -> None:
    segment = SegmentAllocator(20 * P)
    segment.reserved.add(0, 10 * P)
    segment.reserved.add(12 * P, 20 * P)
    holes(segment, (1 * P, 3 * P), (9 * P, 18 * P))
    assert segment.spare_pages() == [(12 * P, 18 * P), (P, 3 * P), (9 * P, 10 * P)]
