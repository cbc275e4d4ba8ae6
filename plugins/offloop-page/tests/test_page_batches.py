"""Batches without HTTP and without a pool: states, revisions, limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from offloop import InvalidTask, MemoryLimitExceeded, Progress, QueueFull, SourceTooLarge, TaskFailed, WorkerDied
from offloop.operation import Header
from offloop_page import PageSettings
from offloop_page.batches.batch import Batch
from offloop_page.batches.batch_store import BatchStore, LimitReached
from offloop_page.batches.conversion import Conversion
from offloop_page.batches.converter import tell_progress
from offloop_page.batches.failures import failure_of
from offloop_page.batches.file_state import FileEvent, FileState, next_state
from offloop_page.settings import settings_from
from offloop_page.storage.object_storage import open_storage
from offloop_page.web.problems import problem_of

LEGAL = {
    "expected": {"upload_begun": "blocked"},
    "blocked": {"memory_granted": "uploading"},
    "uploading": {"received": "waiting"},
    "waiting": {"started": "working", "succeeded": "done"},
    "working": {"started": "working", "succeeded": "done"},
    "done": {"upload_begun": "blocked"},
    "failed": {"upload_begun": "blocked"},
    "cancelled": {"upload_begun": "blocked"},
}


def in_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def call() -> None:
        await test()

    asyncio.run(call())


@pytest.mark.parametrize("event", FileEvent)
@pytest.mark.parametrize("state", FileState)
def test_every_pair_of_state_and_event(state: FileState, event: FileEvent) -> None:
    ends = {} if state.has_ended else {"failed": "failed", "cancelled": "cancelled"}
    assert next_state(state, event) == {**LEGAL[state], **ends}.get(event)


def test_a_listener_gets_the_files_that_changed_after_its_revision() -> None:
    async def scenario() -> None:
        batch = Batch("id", "client", Conversion(), 0.0)
        entries = [batch.add(key, "photo.jpg", 10) for key in "abc"]
        assert [entry.name for entry in entries] == ["photo.jpg", "photo (2).jpg", "photo (3).jpg"]
        seen = batch.revision
        assert batch.changed_since(seen) == []
        batch.changed(entries[2])
        batch.changed(entries[0])
        batch.changed(entries[2])
        assert batch.changed_since(seen) == [entries[0], entries[2]]
        assert batch.changed_since(0) == [entries[1], entries[0], entries[2]]

    in_a_loop(scenario)


def test_an_attempt_that_was_cancelled_or_replaced_changes_nothing() -> None:
    async def scenario() -> None:
        batch = Batch("id", "client", Conversion(), 0.0)
        entry = batch.add("a", "photo.jpg", 10)
        first = batch.begin(entry, 10)
        assert first is not None
        assert batch.begin(entry, 10) is None
        assert batch.cancel(entry)
        assert not batch.cancel(entry)
        assert not first.tell(FileEvent.MEMORY_GRANTED)
        second = batch.begin(entry, 12)
        assert second is not None
        assert not first.tell(FileEvent.MEMORY_GRANTED)
        first.fail(failure_of(InvalidTask("late")))
        assert (entry.state, entry.failure, batch.nbytes) == (FileState.BLOCKED, None, 12)
        assert second.tell(FileEvent.MEMORY_GRANTED)

    in_a_loop(scenario)


def test_progress_is_weighted_by_the_lengths_and_never_decreases_before_a_retry() -> None:
    async def scenario() -> None:
        batch = Batch("id", "client", Conversion(), 0.0)
        small, large = batch.add("s", "s", 10), batch.add("l", "l", 90)
        attempt = batch.begin(large, 90)
        assert attempt is not None
        fractions = [batch.progress()["fraction"]]
        for event in (FileEvent.MEMORY_GRANTED, FileEvent.RECEIVED, FileEvent.STARTED, FileEvent.SUCCEEDED):
            assert attempt.tell(event)
            large.received, large.fraction = 45, 0.5
            batch.changed(large)
            fractions.append(batch.progress()["fraction"])
        assert fractions == [0.0, 0.135, 0.27, 0.585, 0.9]
        batch.cancel(small)
        assert batch.progress()["fraction"] == 1

    in_a_loop(scenario)


def test_progress_is_weighted_by_the_expected_time_as_soon_as_it_is_known() -> None:
    async def scenario() -> None:
        batch = Batch("id", "client", Conversion(), 0.0)
        slow, quick, unknown = (batch.add(name, name, 100) for name in ("slow", "quick", "unknown"))
        slow.cost_s, quick.cost_s = 9.0, 1.0
        fractions = [batch.progress()["fraction"]]
        for entry in (quick, slow, unknown):
            batch.cancel(entry)
            fractions.append(batch.progress()["fraction"])
        assert fractions == [0, round(1 / 15, 4), round(10 / 15, 4), 1]
        for cost_s in (90.0, 1.0):  # what is learned later does not take back what was told
            slow.cost_s = cost_s
            batch.changed(slow)
            assert batch.progress()["fraction"] == 1
        batch.add("new", "new", 100)
        assert batch.progress()["fraction"] < 1

    in_a_loop(scenario)


def test_a_file_says_after_its_upload_what_it_waits_for() -> None:
    async def scenario() -> None:
        batch = Batch("id", "client", Conversion(), 0.0)
        attempt = batch.begin(batch.add("a", "a", 10), 10)
        assert attempt is not None
        for event in (FileEvent.MEMORY_GRANTED, FileEvent.RECEIVED):
            assert attempt.tell(event)
        told: list[tuple[str, str | None, float | None]] = []
        for waits_for in ("memory", "worker", None):
            tell_progress(attempt, Progress(0.0, "", "", None, waits_for, 2.5))
            told.append((attempt.entry.state, attempt.entry.to_dict()["waits_for"], attempt.entry.cost_s))
        assert told == [("waiting", "memory", 2.5), ("waiting", "worker", 2.5), ("working", None, 2.5)]

    in_a_loop(scenario)


def test_a_client_with_too_many_batches_loses_an_idle_one_and_none_that_is_shown() -> None:
    async def scenario() -> None:
        store = BatchStore(PageSettings(max_batches_per_client=2))
        first, second = store.create("a", Conversion()), store.create("a", Conversion())
        with first.listener(), second.listener():
            with pytest.raises(LimitReached) as caught:
                store.create("a", Conversion())
            assert caught.value.limit == "batches_of_client"
            store.create("b", Conversion())
        third = store.create("a", Conversion())
        assert first.is_dropped
        assert store.find(third.batch_id) is third
        assert third.batch_id != second.batch_id

    in_a_loop(scenario)


def test_an_unchanged_batch_is_dropped_after_its_age_and_a_changed_one_later() -> None:
    async def scenario() -> None:
        store = BatchStore(PageSettings(batch_age_s=0.05))
        idle, used = store.create("a", Conversion()), store.create("a", Conversion())
        with used.listener() as changed, idle.listener() as dropped:
            used.begin(used.add("a", "a", 1), 1)
            changed.clear()
            await asyncio.wait_for(dropped.wait(), 5)
        assert idle.is_dropped
        assert not used.is_dropped
        assert used.cancel_all() == 1
        with used.listener() as dropped:
            await asyncio.wait_for(dropped.wait(), 5)
        assert used.is_dropped

    in_a_loop(scenario)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidTask, match="name each width once"):
        Conversion(widths=(10, 10)).check()


def test_the_pipelines_have_one_preview_and_every_frame_of_an_animation() -> None:
    gif = Header(media_type="image/gif", width=10, height=10)
    pipelines = Conversion(format="webp", widths=(5, 3), quality=70).pipelines(gif)
    assert [[type(operation).__name__ for operation in pipeline] for pipeline in pipelines.values()] == [
        ["Decode", "Resize", "Preview", "Webp"],
        ["Decode", "Resize", "Webp"],
    ]
    [still] = Conversion(format="jpeg").pipelines(gif).values()
    assert [type(operation).__name__ for operation in still] == ["Preview", "Jpeg"]


def test_a_failure_says_what_to_do_and_whether_a_retry_can_help() -> None:
    broken = failure_of(TaskFailed("corrupt_source", "premature end"))
    assert (broken.code, broken.can_retry) == ("corrupt_source", False)
    died = failure_of(WorkerDied(-9, reason="a secret path"))
    assert (died.code, died.can_retry) == ("worker_died", True)
    assert "secret" not in died.detail + died.advice
    assert "expected" in failure_of(InvalidTask("expected another width")).detail
    too_large, no_memory = MemoryLimitExceeded(2, 1), MemoryLimitExceeded(2, 1, is_temporary=True)
    assert (failure_of(too_large).code, failure_of(too_large).can_retry) == ("memory_limit", False)
    assert (failure_of(no_memory).code, failure_of(no_memory).can_retry) == ("no_memory", True)
    errors = [SourceTooLarge(2, 1), too_large, no_memory, QueueFull(1, 1)]
    assert [problem_of(error).status for error in errors] == [413, 413, 507, 429]


def test_settings_come_from_the_environment_and_arguments_go_before_it() -> None:
    environment = {
        "OFFLOOP_PAGE_MAX_FILES": "7",
        "OFFLOOP_PAGE_BATCH_AGE_S": "2.5",
        "OFFLOOP_PAGE_ALLOWED_HOSTS": "a.example, b.example",
        "OFFLOOP_PAGE_STORAGE_OPTIONS": "region=eu,endpoint=http://x?a=b",
    }
    settings = settings_from({"max_files": 8}, environment)
    assert (settings.max_files, settings.batch_age_s, settings.allowed_hosts) == (8, 2.5, ("a.example", "b.example"))
    assert settings.storage_options == {"region": "eu", "endpoint": "http://x?a=b"}
    with pytest.raises(ValueError, match="max_files"):
        settings_from({}, {"OFFLOOP_PAGE_MAX_FILES": "0"})
    with pytest.raises(ValueError, match="max_files"):
        settings_from({}, {"OFFLOOP_PAGE_MAX_FILES": "many"})


@pytest.mark.parametrize(
    ("address", "options", "reason"),
    [
        ("s3://bucket/x", {"nonsense": "x"}, "'nonsense' is not valid for store 'S3'"),
        ("s3://bucket/x", {"timeout": "soon"}, 'failed to parse "soon" as Duration'),
        ("memory:///", {"region": "x"}, "does not accept any configuration"),
        ("nonsense://x", {}, "Unable to recognise URL"),
        ("nowhere", {}, "relative URL without a base"),
    ],
)
def test_a_wrong_address_or_option_of_the_storage_is_an_error_of_one_line(
    address: str, options: dict[str, str], reason: str
) -> None:
    pytest.importorskip("obstore")
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        open_storage(PageSettings(storage=address, storage_options=options))
    assert str(caught.value).startswith(f"storage={address!r}: ")
    assert "\n" not in str(caught.value)


def test_metadata_is_kept_on_request_and_not_with_a_cut_out() -> None:
    header = Header(media_type="image/jpeg", width=100, height=50)
    [operations] = Conversion(metadata="keep").pipelines(header).values()
    assert [type(operation).__name__ for operation in operations] == ["Preview", "Metadata", "Webp"]
    with pytest.raises(InvalidTask, match="a cut-out has no metadata"):
        Conversion(metadata="keep", remove_background=True).check()
