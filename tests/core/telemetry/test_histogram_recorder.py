"""Histogram recorder: durations in buckets, percentiles, and differences of two snapshots."""

from __future__ import annotations

from itertools import pairwise
from math import nextafter

import msgspec
import pytest

from offloop import Histogram
from offloop.core.telemetry.histogram_recorder import BOUNDS, Recorder

TICK_S = 2.0**-20
HOUR_S = 3600.0


def histogram(*seconds: float) -> Histogram:
    recorder = Recorder()
    for time in seconds:
        recorder.record(time)
    return recorder.snapshot()


def test_nothing_counted_is_a_histogram_too() -> None:
    empty = histogram()
    assert (empty.count, empty.sum_s, empty.max_s, empty.buckets) == (0, 0.0, 0.0, ())
    assert (empty.percentile(99), empty.below(1.0)) == (0.0, 0)
    assert empty - empty == empty


def test_bounds_rise_by_an_eighth_or_a_tick_from_a_tick_to_more_than_an_hour() -> None:
    assert BOUNDS[0] == TICK_S < 1e-6
    assert BOUNDS[-1] > HOUR_S
    assert all(low < high <= max(low * 1.125, low + TICK_S) for low, high in pairwise(BOUNDS))
    assert {2.0**power for power in range(-20, 13)} <= set(BOUNDS)


@pytest.mark.parametrize("place", range(len(BOUNDS)))
def test_each_bucket_ends_below_its_bound(place: int) -> None:
    bound = BOUNDS[place]
    assert histogram(nextafter(bound, 0.0)).buckets == ((bound, 1),)
    assert histogram(bound).below(bound) == 0
    assert histogram(bound).buckets == (((BOUNDS[place + 1], 1),) if place + 1 < len(BOUNDS) else ())


def test_count_sum_and_maximum_are_those_of_the_times() -> None:
    told = histogram(0.25, 2.0, 0.5)
    assert (told.count, told.sum_s, told.max_s) == (3, 2.75, 2.0)
    assert [number for _, number in told.buckets] == [1, 2, 3]


def test_percentiles_are_the_bounds_of_the_buckets_and_never_above_the_longest_time() -> None:
    told = histogram(*(n / 1000 for n in range(1, 101)))
    assert 0.050 <= told.percentile(50) <= 0.050 * 1.125
    assert 0.090 <= told.percentile(90) <= 0.090 * 1.125
    assert told.percentile(100) == told.max_s == 0.1
    assert 0.001 <= told.percentile(0) <= 0.001 * 1.125


@pytest.mark.parametrize("percent", [-1, 100.1, float("nan")])
def test_a_percentile_that_is_none_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 100"):
        histogram(1.0).percentile(percent)


def test_a_limit_that_is_a_power_of_two_is_counted_exactly_and_another_from_below() -> None:
    told = histogram(0.2499, 0.25, 0.3, 0.4999, 0.5, 7000.0)
    assert (told.below(0.25), told.below(0.5), told.below(4096.0)) == (1, 4, 5)
    assert told.below(0.31) == 2, "the bucket of 0.3 ends at 0.3125"
    assert told.below(TICK_S / 2) == 0


def test_a_time_beyond_the_last_bucket_is_counted_as_the_longest() -> None:
    told = histogram(0.5, 5000.0, 1e9)
    assert (told.count, told.max_s) == (3, 1e9)
    assert told.buckets == ((0.5625, 1),)
    assert (told.percentile(30), told.percentile(50), told.percentile(100)) == (0.5625, 1e9, 1e9)


def test_a_difference_has_the_times_between_two_snapshots() -> None:
    recorder = Recorder()
    for time in (0.25, 3.0, 0.26):
        recorder.record(time)
    earlier = recorder.snapshot()
    for time in (0.25, 1.5, 2**-10):
        recorder.record(time)
    lately = recorder.snapshot() - earlier
    assert lately.buckets == histogram(0.25, 1.5, 2**-10).buckets
    assert (lately.count, lately.sum_s) == (3, 1.75 + 2**-10)
    assert 1.5 <= lately.max_s <= 1.5 * 1.125, "it is not the longest of all, so only its bucket is known"
    assert 1.5 <= lately.percentile(99) <= lately.max_s


@pytest.mark.parametrize(("before", "after", "longest"), [(1.0, 2.0, 2.0), (6000.0, 5000.0, 6000.0), (5000.0, 6000.0, 6000.0)])
def test_the_longest_of_a_difference_is_exact_where_it_is_known(before: float, after: float, longest: float) -> None:
    assert (histogram(before, after) - histogram(before)).max_s == longest


def test_a_difference_the_wrong_way_round_is_refused() -> None:
    earlier, later = histogram(0.5), histogram(0.5, 0.5, 9000.0)
    for one, other in [(earlier, later), (histogram(0.25), earlier), (later, histogram(1e5, 1e5))]:
        with pytest.raises(ValueError, match="later - earlier"):
            _ = one - other
    with pytest.raises(TypeError):
        _ = later - 1  # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]


def test_a_histogram_travels_as_json() -> None:
    told = histogram(0.25, 3.0, 9000.0)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Histogram) == told


def test_a_snapshot_stays_as_it_was() -> None:
    recorder = Recorder()
    recorder.record(1.0)
    before = recorder.snapshot()
    recorder.record(1.0)
    assert (before.count, recorder.snapshot().count) == (1, 2)
