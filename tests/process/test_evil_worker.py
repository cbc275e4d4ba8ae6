"""A malicious worker is detected and killed, its task ends once, and other tasks are not affected.

`evil_worker.py` is written from docs/protocol.md alone. A pool starts the program of `sys.executable`, which is a small script
here: the first process that it starts is the enemy, and every later one a real worker.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import msgspec
import pytest

from offloop import MemoryLimitExceeded, OffloopError, Pool, TaskFailed, TaskTimeout, WorkerDied
from offloop.runtime.workers import connection
from offloop.testing import assert_nothing_left
from offloop.testing.faults import Echo, FaultsPlugin, Noop, PrintText

pytestmark = pytest.mark.anyio

Begin: TypeAlias = Callable[[str], None]

EVIL_WORKER = Path(__file__).with_name("evil_worker.py")
UVLOOP = [pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")]  # starting processes is slow: the rest on one loop
TASKS = 16  # so many that each worker gets at least two of them, whichever is faster
SHORT_S = 0.8  # for tasks that must run into their timeout; a real worker needs milliseconds


class Case(msgspec.Struct, frozen=True):
    """What becomes of the task that an enemy got."""

    error: type[OffloopError] | None  # None: it succeeds, or there is no such task
    text: str = ""  # a pattern in the error's text
    killed: bool = True
    timeout: float | None = None
    start_timeout: float = 30.0
    load_timeout: float = 60.0
    at_the_start: bool = False  # it is replaced before it ever gets a task
    maybe: bool = False  # whether a task is hit is a matter of chance


def died(text: str) -> Case:
    return Case(WorkerDied, text)


UNDECODABLE = died(r"broke the protocol: undecodable message of \d+ bytes: ")
NOT_HELD = died("broke the protocol: it named a block that it does not hold")
NOT_ITS_TASK = died(r"broke the protocol: it answered for task \d+, which it does not have")
OUT_OF_TURN = died(r"broke the protocol: it asked for -?\d+ bytes for task \d+ out of turn")
UNANSWERED = Case(TaskTimeout, "did not stop when told to", timeout=SHORT_S)

CASES: dict[str, Case] = {
    "never_ready": Case(None, start_timeout=2.0, at_the_start=True),
    "garbage_at_the_start": Case(None, at_the_start=True),
    "done_before_ready": Case(None, at_the_start=True),
    "never_loaded": Case(None, load_timeout=2.0, at_the_start=True),
    "ready_without_loading": Case(None, at_the_start=True),
    "loading_twice": Case(None, at_the_start=True),
    "ready_twice": Case(None, at_the_start=True),
    "hang_up_at_the_start": Case(None, at_the_start=True),
    "done_while_idle": Case(None, at_the_start=True),
    "need_while_idle": Case(None, at_the_start=True),
    "garbage": UNDECODABLE,
    "another_protocol": died(r"a frame of 542,393,671 bytes was announced; the limit is 65,536"),
    "empty_frame": died("undecodable message of 0 bytes"),
    "giant_frame": died("a frame of 4,294,967,295 bytes was announced"),
    "slow_frame": died(r"it began a frame, and after 0.5 s only \d+ bytes of it had come"),
    "endless_frame": died(
        r"it began a frame, and after|it sent a frame in more than 4,096 pieces|undecodable|bytes was announced"
    ),
    "half_a_frame_and_stop": died("it began a frame, and after 0.5 s only 20 bytes"),
    "half_a_frame_and_die": died("ended by SIGKILL"),
    "two_messages_in_a_frame": UNDECODABLE,
    "unknown_tag": UNDECODABLE,
    "message_of_the_supervisor": UNDECODABLE,
    "extra_field": UNDECODABLE,
    "missing_field": UNDECODABLE,
    "wrong_type": UNDECODABLE,
    "map_instead_of_array": UNDECODABLE,
    "not_a_number_as_a_time": UNDECODABLE,
    "deep_nesting": UNDECODABLE,
    "text_that_is_none": UNDECODABLE,
    "extension_type": UNDECODABLE,
    "promised_million_items": UNDECODABLE,
    "long_info": died("bytes was announced; the limit is 65,536"),
    "many_messages_at_once": died("out of turn|it does not read"),
    "done_for_another_task": NOT_ITS_TASK,
    "failed_for_another_task": NOT_ITS_TASK,
    "done_twice": Case(WorkerDied, "which it does not have", maybe=True),
    "stale_answer": NOT_ITS_TASK,
    "late_answer": Case(TaskTimeout, "stopped when told to", killed=False, timeout=SHORT_S),
    "late_answer_twice": Case(TaskTimeout, "stopped when told to", timeout=SHORT_S),
    "no_answer": UNANSWERED,
    "stop_itself": UNANSWERED,
    "failure_with_control_characters": Case(TaskFailed, r"\\x1b\[2J\\x00", killed=False),
    "longest_failure": Case(TaskFailed, r"\[code\] é{24576} \[cut\]", killed=False),
    "not_a_number_in_the_info": Case(None, killed=False),
    "next_generation": NOT_HELD,
    "earlier_generation": NOT_HELD,
    "unknown_segment": NOT_HELD,
    "inbox_instead_of_outbox": NOT_HELD,
    "later_offset": NOT_HELD,
    "offset_of_the_status_block": NOT_HELD,
    "offset_beyond_everything": NOT_HELD,
    "negative_offset": NOT_HELD,
    "no_bytes": NOT_HELD,
    "negative_length": NOT_HELD,
    "too_many_bytes": NOT_HELD,
    "own_source_as_result": NOT_HELD,
    "freed_block": NOT_HELD,
    "raster_that_does_not_fit": died(r"undecodable .* does not fill \d+ bytes"),
    "raster_of_objects": died(r"undecodable .* is not a plain numeric type"),
    "empty_raster_that_no_array_can_hold": died("undecodable .* no array can have it"),
    "file_that_nobody_asked_for": died("it wrote a file that was not asked for"),
    "need_less_than_nothing": OUT_OF_TURN,
    "need_nothing": OUT_OF_TURN,
    "need_twice": OUT_OF_TURN,
    "need_for_another_task": OUT_OF_TURN,
    "output_without_credit": died("it handed over output 1 of a task that may hand over 0"),
    "output_of_another_task": died(r"it handed over an output of task \d+ out of turn"),
    "no_output_at_all": died("it handed over no output"),
    "need_more_than_there_is": Case(MemoryLimitExceeded, "9,223,372,036,854,775,808 bytes", killed=False),
    "need_without_end": died("it asked for memory more than 10,000 times for one task"),
    "need_without_reading": died(r"it does not read: after 0.5 s [\d,]+ bytes for it are unsent"),
    "write_after_the_result_was_handed_out": Case(None, killed=False),
    "wild_status": died("exited with code 3$"),
    "wild_progress": died(r"exited with code 3 during faults \(Echo\)$"),
    "denied_beginning": Case(None),
    "hang_up": died("ended by SIGKILL"),
    "leave_a_grandchild": died("exited with code 0"),
    "leave_a_grandchild_of_its_own_session": died("exited with code 0"),
    "flood_of_bytes_on_stderr": UNANSWERED,
    "flood_of_lines_on_stderr": UNANSWERED,
    "close_stderr": Case(None, killed=False),
    "send_descriptors": Case(TaskFailed, r"\[code\] text", killed=False),
    "ignore_retirement": Case(None, killed=False),
}

ON_EVERY_LOOP = ["garbage", "slow_frame", "need_without_reading", "next_generation", "flood_of_lines_on_stderr", "hang_up"]


@pytest.fixture
def begin_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Have the next process that is started be an enemy of this behaviour."""

    def begin(behaviour: str) -> None:
        script = tmp_path / "python"
        taken = tmp_path / "taken"
        evil = f'"{sys.executable}" -E -S "{EVIL_WORKER}" {behaviour}'
        skip = 'while [ "$1" != -c ]; do shift; done; shift 2'  # flags and program of an honest worker
        first = f'if mkdir "{taken}" 2>/dev/null; then {skip}; exec {evil} "$1" "$2" "$3" "$4"; fi'
        script.write_text(f'#!/bin/sh\n{first}\nexec "{sys.executable}" "$@"\n')
        script.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(script))
        monkeypatch.setattr(connection, "STALL_LIMIT_S", 0.5)

    return begin


async def outcomes(pool: Pool, timeout: float | None, count: int = TASKS) -> list[bool | OffloopError]:
    """What became of some tasks at once: whether the right bytes came back, or the error."""
    found: list[bool | OffloopError] = []

    async def submit(number: int) -> None:
        source = b"%d" % number * 1500
        try:
            result = await pool.run(source, [Echo()], timeout=timeout)
        except OffloopError as error:
            found.append(error)
        else:
            found.append(bytes(result) == source)

    async with anyio.create_task_group() as task_group:
        for number in range(count):
            task_group.start_soon(submit, number)
    return found


async def until_whole(pool: Pool, starts: int) -> None:
    """Wait until so many processes were started and all places are filled."""
    with anyio.fail_after(20):
        while (pool.statistics().worker_starts, pool.statistics().workers) != (starts, {"idle": 2}):
            await anyio.sleep(0.005)


async def suffer(case: Case) -> None:
    async with Pool(
        2,
        plugins=[FaultsPlugin],
        memory_limit="64MiB",
        timeout=case.timeout,
        start_timeout=case.start_timeout,
        load_timeout=case.load_timeout,
    ) as pool:
        starts = 3 if case.killed else 2
        if case.at_the_start:
            await until_whole(pool, starts)
        found = await outcomes(pool, case.timeout)
        errors = [outcome for outcome in found if isinstance(outcome, OffloopError)]
        if case.error is not None and (errors or not case.maybe):
            (error,) = errors
            assert type(error) is case.error
            assert re.search(case.text, str(error)), str(error)
            assert str(error).replace("\n", "").isprintable()
        else:
            assert errors == []
        assert found.count(False) <= (case is CASES["write_after_the_result_was_handed_out"])
        await until_whole(pool, starts)
        assert await outcomes(pool, None) == [True] * TASKS
        gc.collect()
        statistics = pool.statistics()
        assert statistics.worker_starts == starts
        assert statistics.completed == 2 * TASKS - len(errors)
    assert_nothing_left(pool)


@pytest.mark.parametrize("anyio_backend", UVLOOP)
@pytest.mark.parametrize("name", CASES)
async def test_an_enemy_costs_one_task(anyio_backend: object, begin_with: Begin, name: str) -> None:
    begin_with(name)
    with anyio.fail_after(30):
        await suffer(CASES[name])


@pytest.mark.every_loop
@pytest.mark.parametrize("name", ON_EVERY_LOOP)
async def test_an_enemy_costs_one_task_on_every_loop(anyio_backend: object, begin_with: Begin, name: str) -> None:
    begin_with(name)
    with anyio.fail_after(30):
        await suffer(CASES[name])


@pytest.mark.every_loop
async def test_an_enemy_that_does_not_read_dies_of_a_large_task(anyio_backend: object, begin_with: Begin) -> None:
    begin_with("stop_reading")
    errors: list[WorkerDied] = []

    async def submit(pool: Pool) -> None:
        try:
            await pool.run(b"", [PrintText("x" * 1_000_000), Noop()])
        except WorkerDied as error:
            errors.append(error)

    async with Pool(2, plugins=[FaultsPlugin], memory_limit="64MiB", timeout=None) as pool:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as task_group:
                for _ in range(2):
                    task_group.start_soon(submit, pool)
            (error,) = errors
            assert re.fullmatch(r"it broke the protocol: it does not read: after 0.5 s [\d,]+ bytes .*", str(error.reason))
            await until_whole(pool, 3)
    assert_nothing_left(pool)


async def test_an_enemy_that_wrote_no_file_is_found_out(anyio_backend: object, begin_with: Begin, tmp_path: Path) -> None:
    begin_with("bytes_where_a_file_was_asked_for")
    errors: list[Any] = []

    async def submit(pool: Pool, path: Path) -> None:
        try:
            await pool.run(b"abc", [Echo()], to=path)
        except OffloopError as error:
            errors.append(error)

    async with Pool(2, plugins=[FaultsPlugin], memory_limit="64MiB") as pool:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as task_group:
                for number in range(TASKS):
                    task_group.start_soon(submit, pool, tmp_path / f"result-{number}")
            await until_whole(pool, 3)
    assert [type(error) for error in errors] == [WorkerDied]
    assert "did not write the file that was asked for" in errors[0].reason
    files = [path for path in tmp_path.iterdir() if path.name.startswith(("result", ".offloop"))]
    assert [path.read_bytes() for path in files] == [b"abc"] * (TASKS - 1)
    assert_nothing_left(pool)


def test_every_behaviour_has_its_case() -> None:
    named = re.compile(r'^(?:@behaviour\ndef (\w+)|(?:behaviours \|= {|    )"(\w+)": \w+ing\()', re.MULTILINE)
    names = {first or second for first, second in named.findall(EVIL_WORKER.read_text())}
    assert names - {"stop_reading", "bytes_where_a_file_was_asked_for"} == set(CASES)
    assert len(names) > 30


def test_the_enemy_knows_nothing_of_the_library() -> None:
    for path in (EVIL_WORKER, EVIL_WORKER.with_name("plain_worker.py")):
        assert not re.search(r"^\s*(?:from|import) (?:offloop|msgspec)", path.read_text(), re.MULTILINE)
