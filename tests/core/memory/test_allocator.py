"""Segment allocator: the range with the fewest new pages, of these the smallest, of these the lowest address."""

from __future__ import annotations

import pytest

from offloop.core.memory.allocator import PAGE_NBYTES, SegmentAllocator, pages

P = PAGE_NBYTES


@pytest.mark.parametrize(("nbytes", "whole"), [(0, 1), (1, 1), (P - 1, 1), (P, 1), (P + 1, 2), (10 * P, 10)])
def test_pages_rounds_up_to_at_least_one(nbytes: int, whole: int) -> None:
    assert pages(nbytes) == whole * P


def test_a_new_segment_is_free_except_for_the_kept_bytes() -> None:
    segment = SegmentAllocator(10 * P, keep=2 * P)
    assert segment._free.total == 8 * P
    assert segment.reserved.total == 0
    assert segment.allocate(P) == 2 * P


def test_a_segment_can_be_allocated_completely_and_no_further() -> None:
    segment = SegmentAllocator(4 * P)
    assert segment.allocate(4 * P) == 0
    assert segment.allocate(P) is None
    segment.free(0, 4 * P)
    assert segment.allocate(4 * P) == 0


def test_no_block_is_allocated_if_no_free_range_is_large_enough_although_their_sum_is() -> None:
    segment = SegmentAllocator(4 * P)
    offsets = [segment.allocate(P) for _ in range(4)]
    assert offsets == [0, P, 2 * P, 3 * P]
    segment.free(0, P)
    segment.free(2 * P, P)
    assert segment._free.total == 2 * P
    assert segment.allocate(2 * P) is None
    assert segment._free.total == 2 * P


def holes(segment: SegmentAllocator, *wanted: tuple[int, int]) -> None:
    """Allocate the whole segment, then free these ranges."""
    segment.allocate(segment.nbytes)
    for start, end in wanted:
        segment.free(start, end - start)


def test_of_equally_good_free_ranges_the_smallest_is_used() -> None:
    segment = SegmentAllocator(20 * P)
    holes(segment, (0, 6 * P), (8 * P, 11 * P), (13 * P, 18 * P))
    assert segment.allocate(3 * P) == 8 * P


def test_a_free_range_with_pages_is_used_before_a_smaller_one_without() -> None:
    segment = SegmentAllocator(20 * P)
    segment.reserved.add(8 * P, 16 * P)
    holes(segment, (0, 2 * P), (8 * P, 16 * P))
    assert segment.allocate(2 * P) == 8 * P


def test_the_free_range_that_needs_the_fewest_new_pages_is_used() -> None:
    segment = SegmentAllocator(20 * P)
    segment.reserved.add(0, P)
    segment.reserved.add(8 * P, 10 * P)
    holes(segment, (0, 4 * P), (8 * P, 12 * P))
    assert segment.allocate(3 * P) == 8 * P


def test_of_all_equal_free_ranges_the_lowest_is_used() -> None:
    segment = SegmentAllocator(20 * P)
    holes(segment, (12 * P, 14 * P), (4 * P, 6 * P))
    assert segment.allocate(P) == 4 * P


@pytest.mark.parametrize("part", [(0, 4), (1, 2), (3, 5)])
def test_freeing_a_free_range_raises_and_changes_nothing(part: tuple[int, int]) -> None:
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
