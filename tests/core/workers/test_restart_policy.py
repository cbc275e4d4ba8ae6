"""Restart policy: pauses, and the breaker with every event in each of its states."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offloop.core.workers.jitter import Jitter
from offloop.core.workers.restart_policy import CircuitBreaker, RestartPolicy

PERIOD_S = 10.0
LONG = 1000.0  # more than any pause, cool-down or half-open phase
PROBE, OTHER = 0, 1


def policy_of(intensity: int = 0, period_s: float = PERIOD_S) -> RestartPolicy:
    return RestartPolicy(intensity, period_s, Jitter(1))


def opened(intensity: int = 0) -> RestartPolicy:
    """A policy with an open breaker, after one crash too many at the time 0."""
    policy = policy_of(intensity)
    for _ in range(intensity + 1):
        policy.crashed(0.0, accepted=True)
    assert policy.breaker is CircuitBreaker.OPEN
    return policy


def half_open(*, ready: bool = False) -> tuple[RestartPolicy, float]:
    """A policy with a half-open breaker and a starting worker, and the time."""
    policy = opened()
    now = policy.wake_at
    assert policy.may_start(PROBE, now)
    if ready:
        policy.became_ready(PROBE, now)
    assert policy.breaker is CircuitBreaker.HALF_OPEN
    return policy, now


def closed() -> tuple[RestartPolicy, float]:
    return policy_of(intensity=5), 0.0


def open_() -> tuple[RestartPolicy, float]:
    return opened(), 0.5


def cooled_down() -> tuple[RestartPolicy, float]:
    """A policy with a half-open breaker and no half-open slot."""
    policy = opened()
    now = policy.wake_at
    policy.advance(now)
    return policy, now


def probe_starts() -> tuple[RestartPolicy, float]:
    return half_open()


def probe_ready() -> tuple[RestartPolicy, float]:
    return half_open(ready=True)


STATES: dict[str, Callable[[], tuple[RestartPolicy, float]]] = {
    "closed": closed,
    "open": open_,
    "half-open, no worker on probation": cooled_down,
    "half-open, the probe starts": probe_starts,
    "half-open, the probe is ready": probe_ready,
}
EVENTS: dict[str, Callable[[RestartPolicy, float], object]] = {
    "the probe crashes": lambda policy, now: policy.crashed(now, accepted=False),
    "an older worker crashes": lambda policy, now: policy.crashed(now, accepted=True),
    "the probe dies at its start": lambda policy, now: policy.died_at_start(PROBE, now),
    "another dies at its start": lambda policy, now: policy.died_at_start(OTHER, now),
    "the probe is ready": lambda policy, now: policy.became_ready(PROBE, now),
    "another is ready": lambda policy, now: policy.became_ready(OTHER, now),
    "the probe answers": lambda policy, _: policy.accepted(PROBE),
    "another answers": lambda policy, _: policy.accepted(OTHER),
    "the probe leaves": lambda policy, now: policy.on_worker_removed(PROBE, now),
    "another leaves": lambda policy, now: policy.on_worker_removed(OTHER, now),
    "a start is asked for": lambda policy, now: policy.may_start(OTHER, now),
    "time passes": lambda policy, now: policy.advance(now),
    "a long time passes": lambda policy, now: policy.advance(now + LONG),
}
MOVES: dict[tuple[str, str], CircuitBreaker] = {
    ("open", "a long time passes"): CircuitBreaker.HALF_OPEN,
    **{
        (state, crash): CircuitBreaker.OPEN
        for state in STATES
        if state.startswith("half-open")
        for crash in ("the probe crashes", "an older worker crashes")
    },
    ("half-open, the probe starts", "the probe dies at its start"): CircuitBreaker.OPEN,
    ("half-open, the probe is ready", "the probe dies at its start"): CircuitBreaker.OPEN,
    ("half-open, the probe starts", "the probe answers"): CircuitBreaker.CLOSED,
    ("half-open, the probe is ready", "the probe answers"): CircuitBreaker.CLOSED,
    ("half-open, the probe is ready", "a long time passes"): CircuitBreaker.CLOSED,
    ("half-open, no worker on probation", "a long time passes"): CircuitBreaker.CLOSED,
}
"""The events that change the breaker. Every other event leaves it unchanged."""


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_event_in_every_state_moves_the_breaker_as_listed(state: str, event: str) -> None:
    policy, now = STATES[state]()
    before = policy.breaker
    EVENTS[event](policy, now)
    assert policy.breaker is MOVES.get((state, event), before)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_from_every_state_a_start_is_allowed_in_bounded_time(state: str, event: str) -> None:
    policy, now = STATES[state]()
    EVENTS[event](policy, now)
    policy.on_worker_removed(PROBE, now)
    policy.on_worker_removed(OTHER, now)
    assert policy.may_start(2, now) or policy.may_start(2, now + 1.2 * 30.0)


# The intensity


def test_one_crash_more_than_the_intensity_opens_the_breaker() -> None:
    policy = policy_of(intensity=3)
    for n in range(3):
        policy.crashed(float(n), accepted=True)
        assert policy.breaker is CircuitBreaker.CLOSED
    policy.crashed(3.0, accepted=True)
    assert policy.breaker is CircuitBreaker.OPEN
    assert policy.crashes == 4


@pytest.mark.parametrize(("at", "breaker"), [(PERIOD_S, CircuitBreaker.OPEN), (PERIOD_S + 0.01, CircuitBreaker.CLOSED)])
def test_a_crash_counts_for_as_long_as_the_period(at: float, breaker: CircuitBreaker) -> None:
    policy = policy_of(intensity=1)
    policy.crashed(0.0, accepted=True)
    policy.crashed(at, accepted=True)
    assert policy.breaker is breaker


def test_start_up_deaths_are_no_crashes() -> None:
    policy = policy_of(intensity=0)
    for _ in range(20):
        policy.died_at_start(0, 0.0)
    assert (policy.breaker, policy.crashes, policy.start_deaths) == (CircuitBreaker.CLOSED, 0, 20)


def test_crashes_from_before_the_breaker_closed_are_forgotten() -> None:
    policy = opened(intensity=1)
    now = policy.wake_at
    policy.may_start(PROBE, now)
    policy.became_ready(PROBE, now)
    policy.accepted(PROBE)
    policy.crashed(now, accepted=True)
    assert policy.breaker is CircuitBreaker.CLOSED


# Open


def test_an_open_breaker_allows_no_start_before_its_time_and_says_when() -> None:
    policy = opened()
    until = policy.ask_again_at
    assert until is not None
    assert until == policy.wake_at == pytest.approx(1.0, rel=0.2)
    assert not policy.may_start(0, until - 0.001)
    assert policy.may_start(0, until)


def test_the_cool_down_doubles_with_each_failed_half_open_phase_up_to_a_cap() -> None:
    policy = opened()
    now, spans = 0.0, list[float]()
    for _ in range(9):
        spans.append(policy.wake_at - now)
        now = policy.wake_at
        assert policy.may_start(PROBE, now)
        policy.became_ready(PROBE, now)
        policy.crashed(now, accepted=False)
    for span, expected in zip(spans, [1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert 0.8 * expected <= span <= 1.2 * expected


def test_a_closed_breaker_makes_the_next_cool_down_short_again() -> None:
    policy = opened()
    for _ in range(4):
        now = policy.wake_at
        policy.may_start(PROBE, now)
        policy.died_at_start(PROBE, now)
    now = policy.wake_at
    policy.may_start(PROBE, now)
    policy.accepted(PROBE)
    policy.crashed(now, accepted=True)
    assert policy.wake_at - now <= 1.2


# Half-open


def test_a_half_open_breaker_starts_one_worker_and_the_others_wait_for_it() -> None:
    policy, now = half_open()
    assert not policy.may_start(OTHER, now + LONG)
    assert policy.ask_again_at is None
    policy.accepted(PROBE)
    assert policy.may_start(OTHER, now)
    assert policy.may_start(2, now)


def test_a_half_open_slot_whose_worker_leaves_makes_room_for_the_next_one() -> None:
    policy, now = half_open(ready=True)
    policy.on_worker_removed(PROBE, now)
    assert policy.breaker is CircuitBreaker.HALF_OPEN
    assert policy.may_start(OTHER, now)
    assert not policy.may_start(2, now)


def test_a_half_open_breaker_without_a_task_closes_after_the_period() -> None:
    policy, now = half_open(ready=True)
    assert policy.wake_at == now + PERIOD_S
    assert not policy.may_start(OTHER, now + PERIOD_S - 0.01)
    assert policy.may_start(OTHER, now + PERIOD_S)
    assert policy.breaker is CircuitBreaker.CLOSED


def test_however_long_the_period_a_probation_ends() -> None:
    policy = policy_of(period_s=1e9)
    policy.crashed(0.0, accepted=True)
    now = policy.wake_at
    policy.may_start(PROBE, now)
    policy.became_ready(PROBE, now)
    assert policy.wake_at == now + 30.0


def test_a_half_open_breaker_does_not_close_before_its_worker_is_ready() -> None:
    policy, now = half_open()
    policy.advance(now + LONG)
    assert policy.breaker is CircuitBreaker.HALF_OPEN
    assert not policy.may_start(OTHER, now + LONG)


def test_a_crash_after_the_probation_is_the_first_of_a_new_count() -> None:
    policy = opened(intensity=1)
    now = policy.wake_at
    policy.may_start(PROBE, now)
    policy.became_ready(PROBE, now)
    policy.crashed(now + LONG, accepted=True)
    assert policy.breaker is CircuitBreaker.CLOSED


def test_another_crash_ends_the_half_open_phase() -> None:
    policy, now = half_open(ready=True)
    policy.crashed(now, accepted=True)
    policy.accepted(PROBE)
    assert policy.breaker is CircuitBreaker.OPEN


# Pauses


def test_a_worker_that_had_accepted_a_task_is_replaced_at_once_however_often() -> None:
    policy = policy_of(intensity=1000)
    assert [policy.crashed(5.0, accepted=True) for _ in range(20)] == [5.0] * 20


def test_deaths_without_an_accepted_task_are_spaced_out_twice_as_far_each_time_up_to_a_cap() -> None:
    policy = policy_of(intensity=1000)
    pauses = [policy.crashed(0.0, accepted=False) for _ in range(12)]
    assert pauses[0] == 0.0
    for pause, expected in zip(pauses[1:], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5, 5], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected


def test_start_up_deaths_are_spaced_out_from_the_first() -> None:
    policy = policy_of()
    pauses = [policy.died_at_start(0, 0.0) for _ in range(9)]
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected


def test_no_number_of_deaths_is_too_large() -> None:
    policy = policy_of(intensity=10_000)
    for _ in range(2000):
        assert policy.died_at_start(0, 0.0) <= 6.0
        assert policy.crashed(0.0, accepted=False) <= 6.0


@pytest.mark.parametrize("cleared_by", ["an accepted task", "a crash after one"])
def test_the_first_accepted_task_ends_the_row_of_deaths(cleared_by: str) -> None:
    policy = policy_of(intensity=1000)
    for _ in range(6):
        policy.crashed(0.0, accepted=False)
    if cleared_by == "an accepted task":
        policy.accepted(0)
    else:
        policy.crashed(0.0, accepted=True)
    assert policy.crashed(0.0, accepted=False) == 0.0


def test_a_worker_that_is_ready_ends_the_row_of_start_up_deaths() -> None:
    policy = policy_of()
    for _ in range(6):
        policy.died_at_start(0, 0.0)
    policy.became_ready(0, 0.0)
    assert policy.start_deaths == 0
    assert policy.died_at_start(0, 0.0) <= 0.12


def test_a_closed_breaker_needs_no_waking() -> None:
    assert policy_of().wake_at == float("inf")
