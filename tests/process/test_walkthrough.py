"""What happens in a pool when something goes wrong, one case a test, each to be read from top to bottom.

The states and events are those of the tables in `core/model/worker_state.py`, as `Pool.events()` reports them.
"""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest
from load_plugins import Exits, ExitsPlugin, Good, GoodPlugin
from model_plugin import Classify, Crash, ModelPlugin

from offloop import (
    EventSubscription,
    Frame,
    PluginError,
    PluginUnavailable,
    Pool,
    TaskEnded,
    TaskTimeout,
    WorkerCrashed,
    WorkerDied,
    WorkerMoved,
)
from offloop.testing.faults import Echo, Emit, Exit, FaultsPlugin, Hang, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


async def test_a_crash(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, aclosing(pool.events()) as events:
        # A processor ends its process. The caller gets an error with a report, and no other task is concerned.
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"abc", [Exit(3)])
        assert died.value.exit_code == 3
        assert died.value.report is not None
        assert died.value.report.running == "faults (Exit)"

        # The end of the channel is the first sign of the death; `waitid` confirms it; the slot gets another process at once.
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
        assert await transitions_until(events, "TaskFinished") == [
            ("idle", "Dispatched", "busy"),
            ("busy", "Disconnected", "failed"),
            ("failed", "Exited", "restarting"),
            ("restarting", "LoadingBegun", "loading"),
            ("loading", "Ready", "idle"),
            ("idle", "Dispatched", "busy"),
            ("busy", "TaskFinished", "idle"),
        ]
        assert pool.statistics().worker_crashes == 1


async def test_a_time_out(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.1) as pool, aclosing(pool.events()) as events:
        # This processor stops when it is told to: the worker goes on with the next task.
        with pytest.raises(TaskTimeout, match="stopped when told to"):
            await pool.run(b"", [Wait(60)], timeout=0.05)
        assert await transitions_until(events, "TaskFinished") == [
            ("idle", "Dispatched", "busy"),
            ("busy", "DeadlineExpired", "timed-out"),
            ("timed-out", "TaskFinished", "idle"),
        ]

        # This one does not: after the grace its worker is killed. That is no crash.
        with pytest.raises(TaskTimeout, match="did not stop when told to"):
            await pool.run(b"", [Hang("hold_gil")], timeout=0.05)
        assert (await transitions_until(events, "Exited"))[1:] == [
            ("busy", "DeadlineExpired", "timed-out"),
            ("timed-out", "GraceExpired", "failed"),
            ("failed", "Exited", "restarting"),
        ]
        assert pool.statistics().worker_crashes == 0


async def test_a_cancellation(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, aclosing(pool.events()) as events:
        # The caller leaves. The task is told to stop, as after a time-out, and `run` returns when its memory is free again.
        with anyio.move_on_after(0.05) as scope:
            await pool.run(bytes(100_000), [Wait(60)])
        assert scope.cancelled_caught
        assert pool.statistics().leases["task"] == 0
        assert await transitions_until(events, "TaskFinished") == [
            ("idle", "Dispatched", "busy"),
            ("busy", "CancelRequested", "timed-out"),
            ("timed-out", "TaskFinished", "idle"),
        ]
        assert (pool.statistics().cancelled, pool.statistics().worker_starts) == (1, 1)


async def test_five_outputs(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], retries=3) as pool, aclosing(pool.events()) as events:
        # A processor hands over five outputs, and its process ends in the sixth. Each output belongs to the caller at once,
        # while the task goes on. The error comes after the last of them.
        frames: list[Frame] = []
        with pytest.raises(WorkerDied) as died:
            async with pool.stream(b"", [Emit(5, 4096, then="exit")]) as stream:
                async for frame in stream:
                    frames.append(frame)
                    del frame
        assert died.value.report is not None
        assert died.value.report.running == "faults (Emit)"

        # The task is not retried, because its outputs would come twice.
        assert await transitions_until(events, "Exited") == [
            ("idle", "Dispatched", "busy"),
            ("busy", "Disconnected", "failed"),
            ("failed", "Exited", "restarting"),
        ]
        assert pool.statistics().retried == 0

        # The frames outlive the worker that has written them. Their memory is free when they are deleted.
        assert [bytes(frame) for frame in frames] == [bytes([index]) * 4096 for index in range(5)]
        assert pool.statistics().leases["caller"] == 5
        frames.clear()
        assert pool.statistics().leases["caller"] == 0


async def test_a_load_failure(anyio_backend: object) -> None:
    async with Pool(1, plugins=[ExitsPlugin, GoodPlugin]) as pool:
        # The load of one plugin ends the worker, twice. Then the plugin is switched off: its tasks are refused with its name.
        with pytest.raises(PluginError, match="its load ended 2 workers; the last one exited with code 7"):
            await pool.run(b"", [Exits()])

        # The third worker has started without it, and tasks of the other plugin run.
        assert bytes(await pool.run(b"abc", [Good()])) == b"abc"
        assert pool.statistics().worker_starts == 3


async def test_two_groups(anyio_backend: object) -> None:
    # The plugin "model" has the group "models", and its companion "good" is loaded there, too. The default group has "good".
    async with Pool(1, plugins=[GoodPlugin, ModelPlugin], idle_timeout=0.2) as pool, aclosing(pool.events()) as events:
        assert list(pool.statistics().groups) == ["default", "models", "small"]
        assert pool.statistics().groups["models"].desired == 0

        # A pipeline of both plugins needs a worker that has both: the group starts with this task.
        result = await pool.run(b"abc", [Good(), Classify()])
        assert bytes(result) == b"abc"
        assert await moves_of("models", events, until="TaskFinished") == [
            ("starting", "LoadingBegun", "loading"),
            ("loading", "Ready", "idle"),
            ("idle", "Dispatched", "busy"),
            ("busy", "TaskFinished", "idle"),
        ]

        # A pipeline of "good" alone runs in the default group. A crash in the other group does not concern it.
        with pytest.raises(WorkerDied):
            await pool.run(b"", [Crash()])
        assert bytes(await pool.run(b"abc", [Good()])) == b"abc"
        groups = pool.statistics().groups
        assert (groups["models"].crashes, groups["default"].crashes) == (1, 0)

        # The crashed worker is replaced for the next task. A group on demand leaves when it was idle for `idle_timeout`.
        assert bytes(await pool.run(b"abc", [Classify()])) == b"abc"
        *_, last = await moves_of("models", events, until="RetirementRequested")
        assert last == ("idle", "RetirementRequested", "retiring")
        assert pool.statistics().groups["models"].desired == 0


async def moves_of(group: str, events: EventSubscription, *, until: str) -> list[tuple[str, str, str]]:
    """The transitions of a group's worker up to the event of that name."""
    moves: list[tuple[str, str, str]] = []
    async for event in events:
        if isinstance(event, WorkerMoved) and event.group == group:
            moves.append((event.before, event.event, event.after))
            if event.event == until:
                break
    return moves


async def transitions_until(events: EventSubscription, last: str) -> list[tuple[str, str, str]]:
    """The transitions of the worker up to the event of that name."""
    moves: list[tuple[str, str, str]] = []
    async for event in events:
        assert not isinstance(event, PluginUnavailable)
        if isinstance(event, WorkerCrashed | TaskEnded):
            continue
        assert isinstance(event, WorkerMoved)
        moves.append((event.before, event.event, event.after))
        if event.event == last:
            break
    return moves
