"""Memory budget: charges, tasks that fit, and tasks that are refused."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from offloop.core.memory.arena import INBOX_ID, Arena
from offloop.core.memory.budget import DEFAULT_WORKER_NBYTES, Budget
from offloop.core.model.blocks import Holder
from offloop.core.model.settings import AdmissionMode
from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.workers.group_slots import GroupSlots
from offloop.core.workers.worker_table import WorkerTable
from offloop.operation import Estimate
from offloop.wire.handles import EncodedAt

from ..pool_script import MIB, STAGES

LIMIT = 256 * MIB


def budget_of(
    limit: int | None = LIMIT, mode: AdmissionMode = AdmissionMode.ENFORCE, *, workers_bytes: int = 0, workers: int = 1
) -> Budget:
    budget = Budget(Arena(LIMIT, LIMIT * 3 // 4), limit, mode, workers=workers)
    budget.set_worker_memory(slot_of(), workers_bytes)
    return budget


def slot_of() -> WorkerSlot:
    return WorkerTable([GroupSlots(1)]).add()


def task_of(task_id: int, peak: int, output: int = 0, nbytes: int = 0, *, guessed: bool = False) -> TaskRecord:
    """A task with this peak and result, by its plugin's estimate, or guessed."""
    estimate = None if guessed else Estimate(peak_bytes=peak, work_s=0.01, output_bytes=output)
    spec = TaskSpec(sources=(EncodedAt(None),), stages=STAGES, timeout_s=None, estimate=estimate)
    task = TaskRecord(task_id, 0.0, spec)
    task.nbytes, task.peak_bytes, task.output_bytes = nbytes, peak, output
    return task


def hold(budget: Budget, nbytes: int) -> None:
    assert budget._arena.allocate(INBOX_ID, nbytes, Holder.CALLER) is not None


# Refusing


@pytest.mark.parametrize(("peak", "refused"), [(200 * MIB - 30, False), (200 * MIB - 29, True), (LIMIT * 1000, True)])
def test_a_task_that_could_not_run_alone_is_refused_with_both_numbers(peak: int, refused: bool) -> None:
    budget = budget_of(workers_bytes=56 * MIB)
    refusal = budget.refusal(task_of(1, peak, output=10, nbytes=20))
    if not refused:
        assert refusal is None
        return
    assert refusal is not None
    assert f"{peak + 30:,}" in str(refusal)
    assert f"{200 * MIB:,}" in str(refusal)


def test_memory_that_is_held_now_refuses_no_task() -> None:
    budget = budget_of()
    hold(budget, 100 * MIB)
    budget.charge(task_of(1, 100 * MIB))
    assert budget.refusal(task_of(2, 250 * MIB)) is None


def test_a_guess_refuses_no_task_and_is_reduced_to_the_capacity() -> None:
    budget = budget_of(workers_bytes=56 * MIB)
    task = task_of(1, LIMIT * 9, nbytes=20 * MIB, guessed=True)
    assert budget.refusal(task) is None
    budget.admit(task)
    assert task.peak_bytes == 180 * MIB * 3 / 4, "a guess leaves memory for others"


def test_a_learned_correction_refuses_no_task_that_the_plugins_estimate_allows() -> None:
    budget = budget_of()
    task = task_of(1, 200 * MIB)
    task.peak_bytes = 16 * 200 * MIB
    assert budget.refusal(task) is None


def test_a_learned_correction_can_prevent_a_refusal() -> None:
    budget = budget_of()
    task = task_of(1, 300 * MIB)
    task.peak_bytes = 100 * MIB
    assert budget.refusal(task) is None


def test_without_a_limit_or_switched_off_nothing_is_refused_charged_or_bounded() -> None:
    for budget in (budget_of(None), budget_of(mode=AdmissionMode.OFF)):
        task = task_of(1, LIMIT * 9)
        assert budget.refusal(task) is None
        budget.admit(task)
        budget.charge(task)
        assert (task.peak_bytes, task.charged_bytes, budget.running_bytes) == (LIMIT * 9, 0, 0)
        assert budget.fits(task_of(2, LIMIT * 9))
        assert budget.room_bytes == inf
        assert budget.task_rlimit_bytes(task, 1, 1) is None
        assert not budget.enforced


# Running


def test_a_running_task_is_charged_until_its_end_and_not_twice() -> None:
    budget = budget_of(workers_bytes=6 * MIB)
    task = task_of(1, 90 * MIB, output=10 * MIB)
    budget.charge(task)
    assert (budget.running, budget.running_bytes, budget.room_bytes) == (1, 100 * MIB, 150 * MIB)
    budget.discharge(task)
    assert (budget.running, budget.running_bytes, budget.room_bytes, task.charged_bytes) == (0, 0, 250 * MIB, 0)


def test_memory_of_the_arena_is_not_free() -> None:
    budget = budget_of()
    hold(budget, 100 * MIB)
    assert budget.room_bytes == 156 * MIB
    budget.charge(task_of(1, 1 * MIB))
    assert budget.fits(task_of(2, 30 * MIB))
    assert budget.fits(task_of(2, 155 * MIB - 1 * MIB))
    assert not budget.fits(task_of(2, 156 * MIB))


def test_a_task_that_runs_alone_always_fits_and_a_second_one_does_not() -> None:
    budget = budget_of()
    hold(budget, 100 * MIB)
    assert budget.fits(task_of(1, 200 * MIB))
    budget.charge(task_of(1, 200 * MIB))
    assert not budget.fits(task_of(2, 1))


def test_while_tasks_are_charged_the_arenas_ceiling_is_lower_by_as_much() -> None:
    budget = budget_of(workers_bytes=56 * MIB)
    assert budget._arena.effective_capacity_bytes == 200 * MIB
    budget.charge(task := task_of(1, 250 * MIB))
    assert budget._arena.effective_capacity_bytes == -50 * MIB
    budget.discharge(task)
    assert budget._arena.effective_capacity_bytes == 200 * MIB


def test_result_memory_in_a_charge_is_counted_once_when_the_arena_has_it() -> None:
    budget = budget_of()
    budget.charge(task := task_of(1, 90 * MIB, output=10 * MIB))
    budget.transfer_to_arena(task, 4 * MIB)
    assert (budget.running_bytes, task.charged_bytes) == (96 * MIB, 96 * MIB)
    budget.transfer_to_arena(task, 6 * MIB)
    budget.discharge(task)
    assert budget.running_bytes == 0


def test_a_task_that_runs_again_is_charged_as_if_it_had_never_run() -> None:
    budget = budget_of()
    budget.charge(task := task_of(1, 90 * MIB, output=10 * MIB))
    budget.transfer_to_arena(task, 10 * MIB)
    budget.discharge(task)
    budget.charge(task)
    assert task.charged_bytes == 100 * MIB


def test_large_tasks_leave_the_room_that_small_ones_have_lately_needed() -> None:
    budget = budget_of()
    budget.charge(small := task_of(1, 20 * MIB))
    budget.discharge(small)
    budget.charge(task_of(2, 100 * MIB))
    assert not budget.fits(task_of(3, 140 * MIB))
    assert budget.fits(task_of(3, 136 * MIB))
    assert budget.fits(task_of(4, 20 * MIB))


def test_a_large_task_that_runs_alone_leaves_no_memory_for_others() -> None:
    budget = budget_of()
    budget.charge(small := task_of(1, 20 * MIB))
    budget.discharge(small)
    assert budget.needed_bytes(task_of(2, 250 * MIB)) == 250 * MIB


def test_the_reserve_for_small_tasks_decays_slowly() -> None:
    budget = budget_of()
    budget.charge(first := task_of(1, 20 * MIB))
    budget.discharge(first)
    for _ in range(300):
        budget.charge(task := task_of(2, 1 * MIB))
        budget.discharge(task)
    budget.charge(task_of(3, 100 * MIB))
    reserve = budget.needed_bytes(task_of(4, 100 * MIB)) - 100 * MIB
    assert 1 * MIB <= reserve < 2 * MIB


def test_in_shadow_mode_every_task_fits_and_tasks_that_would_not_have_are_counted() -> None:
    budget = budget_of(mode=AdmissionMode.SHADOW)
    assert budget.refusal(task_of(1, LIMIT * 2)) is None
    budget.charge(task_of(1, 200 * MIB))
    assert budget.fits(task_of(2, 100 * MIB))
    budget.charge(task_of(2, 100 * MIB))
    assert (budget.would_have_waited, budget.would_have_been_refused) == (1, 1)
    assert budget._arena.effective_capacity_bytes == LIMIT, "the arena is not bounded by it"
    assert not budget.enforced


# Headroom for admitted tasks


def test_sources_leave_memory_for_the_largest_admitted_task_until_it_has_its_outcome() -> None:
    budget = budget_of()
    large, larger = task_of(1, 100 * MIB), task_of(2, 140 * MIB, output=10 * MIB)
    budget.admit(large)
    budget.admit(larger)
    assert budget.headroom_for_admitted(0) == 150 * MIB
    budget.charge(large)
    assert budget.headroom_for_admitted(0) == 50 * MIB, "the other 100 MiB come back when the task ends"
    budget.discharge(large)
    budget.remove(larger)
    assert budget.headroom_for_admitted(0) == 100 * MIB
    budget.remove(large)
    assert budget.headroom_for_admitted(0) == 0


def test_sources_leave_memory_for_a_large_task_on_each_worker() -> None:
    budget = budget_of(workers=3)
    tasks = [task_of(number, 50 * MIB) for number in range(1, 5)]
    budget.admit(tasks[0])
    assert budget.headroom_for_admitted(0) == 50 * MIB, "there is one task only"
    for task in tasks[1:]:
        budget.admit(task)
    assert budget.headroom_for_admitted(0) == 150 * MIB
    budget.charge(tasks[0])
    assert budget.headroom_for_admitted(0) == 100 * MIB, "the charge of a running task is not free memory"


def test_sources_leave_memory_for_tasks_that_are_still_staged() -> None:
    budget = budget_of(workers=3)
    assert budget.headroom_for_admitted(40 * MIB, staged=0) == 40 * MIB
    assert budget.headroom_for_admitted(40 * MIB, staged=1) == 80 * MIB
    assert budget.headroom_for_admitted(40 * MIB, staged=9) == 120 * MIB


def test_sources_may_have_a_third_unless_the_largest_task_needs_it() -> None:
    budget = budget_of(workers=8, workers_bytes=16 * MIB)
    for number in range(8):
        budget.admit(task_of(number, 60 * MIB))
    assert budget.headroom_for_admitted(0) == 160 * MIB
    budget.admit(task_of(9, 200 * MIB))
    assert budget.headroom_for_admitted(0) == 200 * MIB


def test_sources_leave_memory_for_their_own_task() -> None:
    budget = budget_of()
    assert budget.headroom_for_admitted(30 * MIB) == 30 * MIB
    budget.charge(task_of(1, 20 * MIB))
    assert budget.headroom_for_admitted(30 * MIB) == 10 * MIB


def test_a_small_task_is_not_counted_as_admitted() -> None:
    budget = budget_of()
    budget.admit(task_of(1, LIMIT // 8))
    assert budget.headroom_for_admitted(0) == 0
    budget.admit(task_of(2, LIMIT // 8 + 1))
    assert budget.headroom_for_admitted(0) == LIMIT // 8 + 1


def test_admitted_tasks_that_have_ended_are_forgotten() -> None:
    budget = budget_of()
    budget.admit(task_of(0, 200 * MIB))
    for task_id in range(1, 1001):
        task = task_of(task_id, 100 * MIB)
        budget.admit(task)
        budget.remove(task)
    assert list(budget._admitted_large) == [0]
    assert budget.headroom_for_admitted(0) == 200 * MIB


# Workers


def test_idle_workers_are_counted_with_their_reported_memory_within_limits() -> None:
    budget = budget_of()
    slot = slot_of()
    for said, counted in (
        (DEFAULT_WORKER_NBYTES, DEFAULT_WORKER_NBYTES),
        (40 * MIB, 40 * MIB),
        (LIMIT * 9, LIMIT),
        (-5, 0),
        (MIB, MIB),
        (0, 0),
    ):
        budget.set_worker_memory(slot, said)
        assert (budget.workers_bytes, slot.idle_bytes) == (counted, counted)


@pytest.mark.parametrize(
    ("peak", "threads", "concurrency", "allowed"),
    [
        (0, 1, 1, (512 + 48) * MIB),
        (10 * MIB, 2, 4, (15 + 128 + 56) * MIB),
        (400 * MIB, 1, 8, (600 + 64 + 48) * MIB),
        (1000 * MIB, 1, 1, 1024 * MIB),
    ],
)
def test_a_task_may_take_more_than_its_charge_and_never_more_than_there_is(
    peak: int, threads: int, concurrency: int, allowed: int
) -> None:
    budget = Budget(Arena(MIB, MIB), 1024 * MIB, AdmissionMode.ENFORCE)
    assert budget.task_rlimit_bytes(task_of(1, peak), threads, concurrency) == allowed
    assert budget.task_rlimit_bytes(task_of(1, peak, guessed=True), threads, concurrency) == allowed, (
        "a guess is no reason for more"
    )


@pytest.mark.parametrize("workers", [1, 2, 8, 32])
@pytest.mark.parametrize("peak_mib", [0, 1, 33, 200, 600])
@pytest.mark.parametrize("guessed", [True, False])
def test_all_that_run_together_may_take_at_most_twice_the_limit(workers: int, peak_mib: int, guessed: bool) -> None:
    limit = 1024 * MIB
    budget = Budget(Arena(MIB, MIB), limit, AdmissionMode.ENFORCE)
    for _ in range(workers):
        budget.set_worker_memory(slot_of(), 20 * MIB)
    allowed, running = 0, 0
    for task_id in range(workers):
        task = task_of(task_id, peak_mib * MIB, guessed=guessed)
        budget.admit(task)
        if not budget.fits(task):
            break
        budget.charge(task)
        running += 1
        allowed += budget.task_rlimit_bytes(task, 1, workers) or 0
    assert running
    assert budget.workers_bytes + allowed - running * 48 * MIB <= 2 * limit


@pytest.mark.parametrize(
    ("mode", "given", "is_guess", "allowed"),
    [
        (AdmissionMode.ENFORCE, 7 * MIB, False, 7 * MIB),
        (AdmissionMode.ENFORCE, 2000 * MIB, False, (15 + 128 + 48) * MIB),
        (AdmissionMode.ENFORCE, None, True, None),
        (AdmissionMode.ENFORCE, 7 * MIB, True, 7 * MIB),
        (AdmissionMode.OFF, 7 * MIB, False, 7 * MIB),
        (AdmissionMode.OFF, None, True, None),
    ],
)
def test_the_callers_limit_holds_if_it_is_the_lower_one_and_a_task_of_an_unknown_kind_may_take_all(
    mode: AdmissionMode, given: int | None, is_guess: bool, allowed: int | None
) -> None:
    budget = Budget(Arena(MIB, MIB), 1024 * MIB, mode)
    task = task_of(1, 10 * MIB, guessed=True)
    task.spec = msgspec.structs.replace(task.spec, memory_limit_bytes=given)
    assert budget.task_rlimit_bytes(task, 1, 4, is_guess=is_guess) == allowed
