"""`LazyHeap`: the lowest priority is first, keys can be moved and removed, and stale entries do not pile up."""

from __future__ import annotations

from math import inf

import pytest

from offloop.core.model.lazy_heap import LazyHeap


def heap_of(**priorities: float) -> LazyHeap[str]:
    heap: LazyHeap[str] = LazyHeap()
    for key, priority in priorities.items():
        heap.set(key, priority)
    return heap


def popped(heap: LazyHeap[str]) -> list[str]:
    return [heap.pop() for _ in range(len(heap))]


def test_keys_are_popped_in_the_order_of_their_priorities_and_of_being_set() -> None:
    assert popped(heap_of(a=3.0, b=1.0, c=2.0, d=1.0)) == ["b", "d", "c", "a"]


def test_an_empty_heap_has_no_first_key_and_infinity_as_its_lowest_priority() -> None:
    heap = heap_of()
    assert (len(heap), bool(heap), heap.lowest) == (0, False, inf)
    with pytest.raises(IndexError):
        _ = heap.first
    with pytest.raises(IndexError):
        heap.pop()


def test_a_key_that_is_set_again_has_its_new_priority_only() -> None:
    heap = heap_of(a=1.0, b=2.0, c=3.0)
    heap.set("a", 4.0)
    heap.set("c", 0.0)
    assert (heap.first, heap.lowest, len(heap)) == ("c", 0.0, 3)
    assert popped(heap) == ["c", "b", "a"]
    assert heap.lowest == inf


def test_a_removed_key_is_not_first_and_may_be_added_again() -> None:
    heap = heap_of(a=1.0, b=2.0)
    heap.discard("a")
    heap.discard("a")
    assert ("a" in heap, "b" in heap, heap.lowest) == (False, True, 2.0)
    heap.set("a", 3.0)
    assert popped(heap) == ["b", "a"]


def test_iteration_is_in_the_order_in_which_keys_were_added() -> None:
    heap = heap_of(a=3.0, b=1.0, c=2.0)
    heap.set("a", 0.0)
    assert list(heap) == ["a", "b", "c"]


def test_keys_near_the_first_are_valid_ones() -> None:
    heap = heap_of(a=1.0, b=2.0, c=3.0)
    heap.discard("a")
    assert set(heap.near_first(2)) <= {"b", "c"}
    assert set(heap.near_first(3)) == {"b", "c"}


def test_clear_removes_all_keys() -> None:
    heap = heap_of(a=1.0, b=2.0)
    heap.clear()
    assert (len(heap), heap.lowest) == (0, inf)


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_stale_entries_do_not_pile_up(kept: int) -> None:
    heap: LazyHeap[int] = LazyHeap()
    for key in range(kept):
        heap.set(-key - 1, 0.0)  # lower than all others, so that no stale entry is ever the lowest
    for key in range(1000):
        heap.set(key, 1.0)
        heap.set(key, 2.0)
        heap.discard(key)
    assert len(heap) == kept
    assert len(heap._heap) <= 2 * (kept + 1) + 64
