"""The `Pool` class: `async with Pool() as pool`, then `await pool.run(source, pipeline)`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from .client.single_flight.flights import FlightTable
from .client.source_calls import SourceCalls
from .client.staging.stager import SourceStager
from .errors import PoolClosed
from .functions.calls import FunctionCalls
from .operation import DEFAULT_GROUP, Plugin
from .pool_events import PoolObserver
from .runtime.supervisor import Supervisor
from .runtime.telemetry.event_stream import EventSubscription
from .runtime.telemetry.observers import Observers
from .runtime.workers.launcher import Launcher
from .sandbox import Isolation, Posture, SandboxMode
from .settings import PoolSettings, WorkerGroup, check_room, check_seconds, check_workers, settings_of_environment
from .startup import load
from .statistics import Statistics, snapshot

__all__ = ["Pool"]


class Pool(FunctionCalls, SourceCalls):
    """Pool of worker processes with shared memory, for an async server.

        async with Pool() as pool:
            result = await pool.run(data, [Resize(720, 588), Webp()])

    Enter it once, for instance in the server's lifespan, and share it between requests. Leaving the block ends every
    unfinished task with `PoolClosed`, and ends and reaps every worker, also when the block is left by an exception or a
    cancellation. Results that are still referred to stay valid.

    Args:
        workers: maximum number of running tasks, each in its own process. Default: the CPUs that this process may use
            (affinity, cgroup quota).
        min_workers, max_workers: instead of `workers`: number of workers that are kept, and maximum number of running tasks.
            More workers are started when tasks wait, and stopped after `idle_timeout` idle seconds.
        idle_timeout: idle seconds after which workers that are not always kept are stopped.
        memory_limit: bytes for the whole pool, or as in "2GiB": sources and results in shared memory, idle workers, and
            estimates of running tasks. Default: half of the memory that the process may use. Shared memory is also bounded by
            nine tenths of the free space in /dev/shm. A limit that is too small for idle workers bounds shared memory only.
            A given limit that cannot be met is logged as a warning.
        admission: "enforce": a task waits until there is memory for it, and is stopped if it takes far more than was
            estimated; "shadow": tasks that would have waited are only counted; "off".
        timeout: default of `run`: seconds that a task may run. None: no limit.
        max_queue, max_queue_bytes: maximum number of waiting tasks, and maximum length of their sources, in bytes or as in
            "1GiB". Beyond them a task is refused with `QueueFull`. None: no limit.
        spares: number of ready workers beyond `workers`. When a worker dies, a spare replaces it without the wait for a start.
            Each costs the memory of an idle process, and 256 KiB of `memory_limit`.
        plugins: names of installed plugins, "module:attribute" references, or plugins. Default: every installed plugin.
        functions: names of modules and packages whose functions may run in workers without `@offloop.function`.
        groups: worker groups beside the default one, which these settings describe; see `WorkerGroup`.
        inline: whether tasks run in threads of this process, for a debugger (`breakpoint()`) and for tests, without isolation:
            no time limits, no limits of memory, no sandbox, and a crash ends this process. It is logged as a warning.
        grace: seconds between telling a task or a worker to stop and SIGKILL.
        start_timeout: seconds from starting a worker until it must begin to load plugins.
        load_timeout: seconds in which a worker must load all plugins. A plugin whose load ends two workers is switched off.
        nice: niceness of the workers relative to the server's, 0 to 19: the event loop comes first when all CPUs are busy.
            "idle": workers use only CPU time that no other process wants, and the loop interrupts them at once; but a server
            that keeps all CPUs busy stops its workers. Workers of the group "small" (for small tasks beside large
            ones; at most `workers` of them) have a higher priority than the others.
        tenant_weights: shares of the workers' time for tenants that compete, by tenant. Default: 1 each.
        retries: default of `run`: number of retries of a task whose worker died, each on a worker that has had no task
            before. For pipelines that may be run twice. A time-out is not retried.
        restart_intensity: number of crashes within `restart_period` seconds up to which crashed workers are replaced at once.
            Beyond it starts are spaced out, and one worker at a time is tried until it has done a task, or has stayed alive for
            a while. Default: 5 for each worker and spare.
        restart_period: seconds in which crashes are counted for `restart_intensity`.
        quarantine_after: number of workers that the same source with the same pipeline may kill, by a crash or by not stopping
            at the deadline, before it is refused with `TaskQuarantined` for `quarantine_time` seconds. None: no limit.
        quarantine_time: seconds for which it is refused.
        max_tasks_per_worker, max_worker_age, max_worker_memory: number of tasks, age in seconds, and private memory between two
            tasks (bytes, or as in "500MiB") at which a worker is replaced, by one that is ready before. Each limit varies by a
            fifth (the memory downwards), so that not all workers are replaced at once. None: no limit.
        executable: the Python interpreter that runs the workers, or a list of it and its first arguments. Default: this
            program's own. A frozen program needs one that has offloop and the plugins, unless it calls `freeze_support`.
        environment: variables of the workers, beside those of the server's that `sandbox` leaves; None removes one. Default,
            unless the server's environment has other values: one thread for OpenMP, BLAS and similar libraries, and a malloc
            that returns large blocks at once.
        spawn_prefix: program that starts the workers, and its first arguments, such as bubblewrap or nsjail: namespaces
            for each worker, where they are allowed. It must pass descriptors on and end with the worker. See docs/sandbox.md.
        sandbox: isolation of the workers from the machine, for code that has taken over a processor by a hostile source.
            "auto": all layers that the kernel has; of the server's environment, workers get variables of Python, libraries and
            language only. "strict": a worker that lacks a layer runs no task. "off": none, and the whole environment. See
            `Plugin.needs`, `Pool.sandbox` and docs/sandbox.md.
        isolation: tasks that may run in one worker, one after the other. "pool": all. "tenant": those of one tenant; the worker
            is replaced before another tenant needs it. "task": one; `spares` make the replacement quick.
        private_sources: whether only the worker that has a task can read its sources. They are copied for it, which takes about
            0.1 ms for a mebibyte. False: the workers map the sources of all tasks, and a moved `Buffer` is not copied. Default:
            True, unless `sandbox` is "off".

    Raises:
        ValueError, TypeError: a setting is out of its range, or of the wrong type.
    """

    _entered = False

    def __init__(
        self,
        workers: int | None = None,
        *,
        memory_limit: int | str | None = None,
        timeout: float | None = 30.0,
        max_queue: int | None = None,
        max_queue_bytes: int | str | None = None,
        min_workers: int | None = None,
        max_workers: int | None = None,
        idle_timeout: float = 30.0,
        admission: Literal["enforce", "shadow", "off"] = "enforce",
        spares: int = 0,
        plugins: Sequence[str | Plugin | type[Plugin]] | None = None,
        groups: Sequence[WorkerGroup] = (),
        functions: Sequence[str] = (),
        inline: bool = False,
        grace: float = 0.25,
        start_timeout: float = 30.0,
        load_timeout: float = 60.0,
        nice: int | Literal["idle"] = 8,
        tenant_weights: Mapping[str, float] | None = None,
        retries: int = 0,
        restart_intensity: int | None = None,
        restart_period: float = 10.0,
        quarantine_after: int | None = 3,
        quarantine_time: float = 300.0,
        max_tasks_per_worker: int | None = None,
        max_worker_age: float | None = None,
        max_worker_memory: int | str | None = None,
        executable: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        environment: Mapping[str, str | None] | None = None,
        spawn_prefix: Sequence[str] = (),
        sandbox: SandboxMode = "auto",
        isolation: Isolation = "pool",
        private_sources: bool | None = None,
    ) -> None:
        """Check the settings. Nothing is started before the pool is entered."""
        super().__init__()
        self._settings = PoolSettings(
            workers=workers,
            memory_limit=memory_limit,
            timeout=timeout,
            max_queue=max_queue,
            max_queue_bytes=max_queue_bytes,
            min_workers=min_workers,
            max_workers=max_workers,
            idle_timeout=idle_timeout,
            admission=admission,
            plugins=plugins,
            groups=groups,
            functions=functions,
            inline=inline,
            grace=grace,
            start_timeout=start_timeout,
            load_timeout=load_timeout,
            nice=nice,
            tenant_weights=tenant_weights,
            spares=spares,
            retries=retries,
            restart_intensity=restart_intensity,
            restart_period=restart_period,
            quarantine_after=quarantine_after,
            quarantine_time=quarantine_time,
            max_tasks_per_worker=max_tasks_per_worker,
            max_worker_age=max_worker_age,
            max_worker_memory=max_worker_memory,
            executable=executable,
            environment=environment,
            spawn_prefix=spawn_prefix,
            sandbox=sandbox,
            isolation=isolation,
            private_sources=private_sources,
        )
        self._observers = Observers()
        self._launcher: Launcher | None = None  # offloop.testing sets one; None: processes

    @classmethod
    def from_env(cls, prefix: str = "OFFLOOP_", /, **defaults: Any) -> Self:
        """Return a pool with settings from environment variables: OFFLOOP_WORKERS=4, OFFLOOP_MEMORY_LIMIT=2GiB.

        Every setting but `groups` has a variable: the prefix and its name in capitals. Lists are separated by commas, as in
        OFFLOOP_PLUGINS=vips,onnx, and dictionaries are written as in OFFLOOP_TENANT_WEIGHTS=gold=3,free=1. "none" is None.

        Args:
            prefix: first characters of the variables. Others with this prefix are ignored, unless they look misspelt.
            defaults: settings that are used where the environment has no variable.

        Raises:
            ValueError, TypeError: a setting is out of its range, or cannot be read; the message names it.
        """
        return cls(**{**defaults, **settings_of_environment(os.environ, prefix)})

    async def __aenter__(self) -> Self:
        """Import the plugins in a thread, and start the workers. Returns when all starts of the default group have ended.
        Groups with `min_workers` are started, too, and not awaited. Works once for a pool.

        Raises:
            PluginError: a plugin that was asked for by name cannot be used, or a group needs a plugin that the pool has not.
            WorkerDied: no worker could be started; the error has the worker's last output.
            PoolClosed: the pool was entered before.
            PoolMisused: this system is not Linux, or this program cannot start workers (see `freeze_support`).
            ValueError: there is not enough memory for so many spares.
        """
        if self._entered:
            raise PoolClosed("a pool can be entered only once")
        self._entered = True
        loaded = await load(self._settings, self._launcher)
        self._registry, self._planner = loaded.registry, loaded.planner
        supervisor = Supervisor(loaded.core_settings, loaded.worker_config)
        self._stager, self._flights = SourceStager(supervisor), FlightTable()
        supervisor.event_stream.attach(self._observers)
        self._supervisor = supervisor  # last, because another thread may ask for statistics from now on
        await supervisor.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every task and worker. Takes at most the grace, plus the time that the system needs to kill and reap.

        Any task of the loop may call it, also after the pool is closed. A cancellation is raised when the pool is closed.
        In a forked child it does nothing, because the pool is the parent's.

        Raises:
            PoolMisused: called in another thread or event loop than the one that entered the pool.
            InternalError: a defect in offloop has ended the pool before.
        """
        supervisor = self._supervisor
        if supervisor is None or supervisor.affinity.forked:
            return  # a forked child cannot await anything, because the loop is the parent's
        supervisor.affinity.check()
        await supervisor.close()

    @property
    def sandbox(self) -> Posture:
        """The sandbox of the workers of the default group: layers in force, and reasons for the missing ones.

        `Pool.statistics().groups[name].sandbox` is that of another group.

        Raises:
            PoolClosed: no worker of the default group has become ready yet.
        """
        posture = None if self._supervisor is None else self._supervisor.core.groups.default.sandbox_reports.posture
        if posture is None:
            raise PoolClosed("no worker was started")
        return posture

    def statistics(self) -> Statistics:
        """Statistics of the pool at this moment; of a closed pool the last ones; in a forked child those of the fork.

        Any thread may call it. In another thread than the pool's, the numbers may be of two moments.

        Raises:
            PoolClosed: the pool was never entered.
        """
        if self._supervisor is None:
            raise PoolClosed("the pool was never entered")
        if self._supervisor.affinity.is_current:
            self._supervisor.collect_returns()
        return snapshot(self._supervisor.core, self._flights.joined)

    def events(self) -> EventSubscription:
        """Subscribe to pool events: an async iterator of all events from this call on, until the pool is closed.

        Yields `TaskEnded` for each task, `WorkerMoved` for each state change of each worker, with its cause, `WorkerCrashed`
        with a report, `TaskRetried`, `BreakerMoved`, and the other types of `PoolEvent`. A subscription that is 10,000 events
        behind drops the oldest and counts them in `dropped`. End it by `close()`, `contextlib.aclosing`, or deletion. Without
        one, nothing is recorded. Tasks may share one subscription: each event goes to one of them.
        """
        return self._open().event_stream.subscribe()

    def add_observer(self, observer: PoolObserver) -> None:
        """Call an observer for each event, at once, in the thread of the pool's loop, and for each submitted task.

        It may be added before the pool is entered. Each event then costs the loop a few microseconds more.
        """
        self._observers.add(observer)

    def remove_observer(self, observer: PoolObserver) -> None:
        """Call an observer no more. One that was not added is ignored."""
        self._observers.remove(observer)

    async def resize(self, workers: int, *, group: str = DEFAULT_GROUP) -> None:
        """Change the number of workers of a group. Returns when new workers are ready and superfluous ones have exited.

        A superfluous worker finishes its current task first. Cancelling the call does not undo the change.

        Raises:
            ValueError, TypeError: `workers` is less than 1 or not a whole number, or too many for memory_limit; or the pool has
                no such group.
            WorkerDied: no worker can be started.
            PoolClosed: the pool is not open, or was closed before the change was complete.
        """
        check_workers(workers)
        supervisor = self._open()
        check_room(workers, supervisor.core.settings, group)
        await supervisor.conditions.resize(supervisor.apply, workers, group)

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuse new tasks, wait for the present ones, and close the pool, before a server stops.

        Args:
            timeout: seconds after which the remaining tasks are stopped as by leaving the block; None: no limit.

        Returns:
            Whether all tasks ended by themselves.

        New calls raise `PoolClosed`; so do an `async with` that has not opened the pool yet, and `drain` of a pool that was
        never entered. If `drain` is cancelled, the present tasks go on, and new ones are still refused.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        supervisor = self._supervisor
        if supervisor is None:
            raise PoolClosed
        supervisor.affinity.check()
        return await supervisor.conditions.drain(supervisor.apply, timeout)
