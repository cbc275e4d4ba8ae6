"""Cost model: predicted time and memory, before and after tasks of a kind were measured."""

from __future__ import annotations

import msgspec
import pytest

from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.scheduling.cost_model import DEFAULT_PEAK_BYTES, DEFAULT_PEAK_BYTES_PER_BYTE, CostModel
from offloop.operation import Estimate
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Done, Failed, Stage

MIB = 1 << 20
NOISE = 16 * MIB  # added to all peaks, so that small tasks change little
SAID = Estimate(peak_bytes=100 * MIB, work_s=2.0, output_bytes=MIB)


def task(
    nbytes: int = 0, operation: str = "Noop", *, estimate: Estimate | None = None, media_type: str = "image/jpeg"
) -> TaskRecord:
    stages = [Stage("faults", msgspec.Raw(msgspec.msgpack.encode([[operation]])))]
    spec = TaskSpec(sources=(EncodedAt(None),), stages=stages, timeout_s=None, estimate=estimate, media_type=media_type)
    task = TaskRecord(1, 0.0, spec)
    task.nbytes = nbytes
    return task


def done(peak_bytes: int = 0, cpu_s: float = 0.0) -> Done:
    return Done(1, EncodedAt(None), {}, 1, 2, 0, peak_bytes, int(cpu_s * 1e9))


def cost_of(estimates: CostModel, one: TaskRecord) -> float:
    estimates.predict(one)
    return one.cost_s


def peak_of(estimates: CostModel, one: TaskRecord) -> int:
    estimates.predict(one)
    return one.peak_bytes


def test_before_anything_is_known_a_larger_source_costs_more() -> None:
    estimates = CostModel()
    guesses = [cost_of(estimates, task(nbytes)) for nbytes in (0, 50_000, MIB, 10 * MIB)]
    assert guesses == pytest.approx([0.005, 0.01, 0.11, 1.05], rel=0.01)


def test_a_task_without_an_estimate_has_a_default_and_never_the_whole_budget() -> None:
    estimates = CostModel()
    assert peak_of(estimates, task()) == DEFAULT_PEAK_BYTES
    assert peak_of(estimates, task(MIB)) == DEFAULT_PEAK_BYTES + MIB * DEFAULT_PEAK_BYTES_PER_BYTE


def test_a_plugins_word_counts_until_something_is_known() -> None:
    one = task(MIB, estimate=SAID)
    CostModel().predict(one)
    assert (one.cost_s, one.peak_bytes, one.output_bytes) == (2.0, 100 * MIB, MIB)


def test_the_first_task_of_a_kind_tells_how_long_the_next_will_take() -> None:
    estimates = CostModel()
    estimates.observe(task(MIB), done(), 2.0)
    assert cost_of(estimates, task(MIB)) == pytest.approx(2.0)
    assert cost_of(estimates, task(MIB + MIB // 2)) == pytest.approx(3.0, rel=0.02), (
        "a source of the same size class has the same factor"
    )
    assert cost_of(estimates, task(4 * MIB)) == pytest.approx(0.42, rel=0.02)
    assert cost_of(estimates, task(MIB, "Other")) == pytest.approx(0.11, rel=0.01)


def test_a_correction_is_a_factor_for_every_size_of_a_format_and_for_no_other_format() -> None:
    estimates = CostModel()
    estimates.observe(task(MIB, estimate=SAID), done(50 * MIB), 4.0)
    larger = Estimate(peak_bytes=200 * MIB, work_s=4.0)
    assert cost_of(estimates, task(9 * MIB, estimate=larger)) == pytest.approx(8.0)
    assert cost_of(estimates, task(9 * MIB, estimate=larger, media_type="image/png")) == 4.0


def test_a_plugins_word_about_time_is_corrected_within_limits() -> None:
    estimates = CostModel()
    liar = Estimate(peak_bytes=MIB, work_s=0.001)
    for _ in range(10):
        estimates.observe(task(estimate=liar), done(), 10.0)
    assert cost_of(estimates, task(estimate=SAID)) == pytest.approx(16 * SAID.work_s)


def test_the_key_of_a_kind_is_short_however_long_its_operations_are() -> None:
    estimates = CostModel()
    estimates.observe(task(MIB, "x" * MIB), done(), 2.0)
    (kind,) = estimates._corrections
    assert len(repr(kind)) < 1100


def test_one_outlier_changes_the_predicted_time_little_and_several_change_it() -> None:
    estimates = CostModel()
    estimates.observe(task(MIB), done(), 0.1)
    estimates.observe(task(MIB), done(), 10.1)
    assert cost_of(estimates, task(MIB)) == pytest.approx(2.6)
    for _ in range(20):
        estimates.observe(task(MIB), done(), 10.1)
    assert cost_of(estimates, task(MIB)) == pytest.approx(10.1, rel=0.01)


def test_memory_that_is_always_the_same_is_charged_for_as_it_is() -> None:
    estimates = CostModel()
    for _ in range(10):
        estimates.observe(task(estimate=SAID), done(300 * MIB), 1.0)
        assert peak_of(estimates, task(estimate=SAID)) == pytest.approx(300 * MIB, rel=0.01)


def test_memory_that_varies_is_charged_for_with_a_margin_that_is_not_the_highest_for_ever() -> None:
    estimates = CostModel()
    for _ in range(50):
        for taken in (100, 100, 100, 200):
            estimates.observe(task(estimate=SAID), done(taken * MIB), 1.0)
    assert 180 * MIB < peak_of(estimates, task(estimate=SAID)) < 300 * MIB
    for _ in range(50):
        estimates.observe(task(estimate=SAID), done(100 * MIB), 1.0)
    assert peak_of(estimates, task(estimate=SAID)) == pytest.approx(100 * MIB, rel=0.01)


@pytest.mark.parametrize(("claimed", "factor"), [(1 << 60, 16), (1, 0.25)])
def test_a_worker_that_lies_about_its_memory_is_believed_within_limits(claimed: int, factor: float) -> None:
    estimates = CostModel()
    for _ in range(500):
        estimates.observe(task(estimate=SAID), done(claimed), 1.0)
    assert peak_of(estimates, task(estimate=SAID)) == pytest.approx((SAID.peak_bytes + NOISE) * factor - NOISE, rel=0.01)


def test_the_peak_of_a_small_task_changes_the_prediction_for_a_large_one_little() -> None:
    estimates = CostModel()
    little, large = Estimate(peak_bytes=2 * MIB, work_s=0.01), Estimate(peak_bytes=1000 * MIB, work_s=5.0)
    for _ in range(20):
        estimates.observe(task(estimate=little), done(20_000), 0.01)
    assert peak_of(estimates, task(estimate=large)) > 850 * MIB


def test_a_task_that_was_too_short_to_look_tells_nothing_about_memory() -> None:
    estimates = CostModel()
    estimates.observe(task(estimate=SAID), done(0), 1.0)
    assert peak_of(estimates, task(estimate=SAID)) == SAID.peak_bytes


AT_LIMIT = Failed(1, "memory_limit", "no", None, 1, 2)


def test_a_guess_that_a_task_ran_into_is_doubled() -> None:
    estimates = CostModel()
    before = peak_of(estimates, task(MIB))
    estimates.observe(task(MIB), AT_LIMIT, 1.0)
    assert peak_of(estimates, task(MIB)) == 2 * before + NOISE
    assert cost_of(estimates, task(MIB)) == pytest.approx(cost_of(CostModel(), task(MIB)))


def test_a_task_with_an_estimate_that_runs_into_its_limit_teaches_nothing() -> None:
    estimates = CostModel()
    estimates.observe(task(estimate=SAID), done(SAID.peak_bytes), 1.0)
    before = peak_of(estimates, task(estimate=SAID)), cost_of(estimates, task(estimate=SAID))
    for _ in range(6):
        estimates.observe(task(estimate=SAID), AT_LIMIT, 1.0)
    assert (peak_of(estimates, task(estimate=SAID)), cost_of(estimates, task(estimate=SAID))) == before


def test_a_task_that_failed_otherwise_tells_nothing() -> None:
    estimates = CostModel()
    estimates.observe(task(estimate=SAID), Failed(1, "corrupt_source", "no", None, 1, 2, 0, 1, 1), 0.01)
    assert len(estimates) == 0


@pytest.mark.parametrize(("cpu_s", "expected"), [(1.5, 1.5), (0.1, 2.0), (0.0, 2.0), (7.0, 2.0), (-5.0, 2.0)])
def test_time_is_the_processors_where_it_computed_and_the_clocks_where_it_waited(cpu_s: float, expected: float) -> None:
    estimates = CostModel()
    estimates.observe(task(MIB), done(cpu_s=cpu_s), 2.0)
    assert cost_of(estimates, task(MIB)) == pytest.approx(expected)


def test_nothing_is_learned_from_a_negligible_task() -> None:
    estimates = CostModel()
    estimates.observe(task(), done(), 0.0009)
    assert len(estimates) == 0


def test_that_a_large_source_costs_nothing_is_learned() -> None:
    estimates = CostModel()
    estimates.observe(task(100 * MIB), done(), 0.0005)
    assert cost_of(estimates, task(100 * MIB)) == pytest.approx(0.0005)


def test_of_more_kinds_than_are_remembered_the_least_recent_is_forgotten() -> None:
    estimates = CostModel()
    for number in range(1025):
        estimates.observe(task(MIB, str(number)), done(), 1.0)
    assert len(estimates) == 1024
    assert cost_of(estimates, task(MIB, "0")) != pytest.approx(1.0)
    assert cost_of(estimates, task(MIB, "1024")) == pytest.approx(1.0)


def test_a_kind_is_known_after_several_tasks() -> None:
    estimates = CostModel()
    for _ in range(2):
        estimates.observe(task(MIB), done(), 1.0)
        assert not estimates.has_observed(task(MIB))
    estimates.observe(task(MIB), done(), 1.0)
    assert estimates.has_observed(task(MIB))


def test_a_workers_first_task_says_nothing_of_time_as_plugins_were_loaded_in_it() -> None:
    estimates = CostModel()
    estimates.observe(task(estimate=SAID), done(300 * MIB), 9.0, first=True)
    assert cost_of(estimates, task(estimate=SAID)) == SAID.work_s
    assert peak_of(estimates, task(estimate=SAID)) == pytest.approx(300 * MIB, rel=0.01)
    estimates.observe(task(estimate=SAID), done(300 * MIB), 3.0)
    assert cost_of(estimates, task(estimate=SAID)) == pytest.approx(3.0)


def test_a_workers_first_task_leaves_nothing_behind_where_it_says_nothing_of_memory() -> None:
    estimates = CostModel()
    estimates.observe(task(MIB), done(), 2.0, first=True)
    assert len(estimates) == 0
    estimates.observe(task(MIB), done(peak_bytes=64 * MIB), 2.0, first=True)
    assert len(estimates) == 1


def test_the_costs_of_one_kind_are_learned_from_tasks_with_different_operations() -> None:
    estimates = CostModel()

    def call(number: int, function: str) -> TaskRecord:
        one = task(operation=str(number))
        one.spec = msgspec.structs.replace(one.spec, kind=(("functions", function),))
        return one

    for number in range(3):
        estimates.observe(call(number, "slow"), done(), 3.0)
    assert cost_of(estimates, call(3, "slow")) == pytest.approx(3.0)
    assert cost_of(estimates, call(3, "other")) == pytest.approx(0.005)


def test_an_estimate_of_the_memory_alone_leaves_the_time_to_be_learned_without_a_bound() -> None:
    estimates = CostModel()
    only_memory = Estimate(peak_bytes=100 * MIB)
    assert cost_of(estimates, task(estimate=only_memory)) == pytest.approx(0.005)
    for _ in range(3):
        estimates.observe(task(estimate=only_memory), done(), 60.0)
    assert cost_of(estimates, task(estimate=only_memory)) == pytest.approx(60.0)
    assert peak_of(estimates, task(estimate=only_memory)) == 100 * MIB


def test_the_memory_of_a_guess_is_learned_far_beyond_that_of_an_estimate() -> None:
    estimates = CostModel()
    for _ in range(3):
        estimates.observe(task(), done(4096 * MIB), 1.0)
    assert peak_of(estimates, task()) == pytest.approx(4096 * MIB, rel=0.01)


def test_the_callers_limit_bounds_what_is_predicted() -> None:
    one = task(estimate=SAID)
    one.spec = msgspec.structs.replace(one.spec, memory_limit_bytes=10 * MIB)
    assert peak_of(CostModel(), one) == 10 * MIB
