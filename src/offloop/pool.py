"""The `Pool` class: `async with Pool() as pool`, then `await pool.run(source, pipeline)`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from types import EllipsisType, TracebackType
from typing import Literal, Self

from .client.buffers import Buffer
from .client.results import Result
from .client.sources import Bytes, File, Source, classify
from .client.staging import SourceStager
from .client.submission import Submission
from .core.model.pool_phase import PoolPhase
from .errors import InvalidTask, PoolClosed, TaskFailed
from .operation import Header, Operation, Plugin
from .plugins import Planner, Registry
from .runtime.files.source_files import read_file_head
from .runtime.memory.source_memory import read_head
from .runtime.supervisor import Supervisor
from .runtime.telemetry.event_stream import EventSubscription
from .runtime.workers.config import WorkerConfig
from .runtime.workers.launcher import Launcher
from .runtime.workers.process import ProcessLauncher
from .settings import PoolSettings, check_nbytes, check_room, check_seconds, check_workers
from .startup import load
from .statistics import Statistics, snapshot
from .system import memory_pressure
from .task_options import TaskOptions

__all__ = ["Pool"]


class Pool:
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
        grace: seconds between telling a task or a worker to stop and SIGKILL.
        start_timeout: seconds from starting a worker until it must begin to load plugins.
        load_timeout: seconds in which a worker must load all plugins. A plugin whose load ends two workers is switched off.
        nice: niceness of the workers relative to the server's, 0 to 19: the event loop comes first when all CPUs are busy.
            "idle": workers use only CPU time that no other process wants, and the loop interrupts them at once; but a server
            that keeps all CPUs busy stops its workers. A helper (a worker for small tasks beside large ones; at most
            `workers` of them) has a higher priority than the other workers.
        tenant_weights: shares of the workers' time for tenants that compete, by tenant. Default: 1 each.
        retries: default of `run`: number of retries of a task whose worker died, each on a worker that has had no task
            before. For pipelines that may be run twice. A time-out is not retried.
        restart_intensity: number of crashes within `restart_period` seconds up to which crashed workers are replaced at once.
            Beyond it starts are spaced out, and one worker at a time is tried until it has done a task, or has stayed alive for
            a while. Default: 5 for each worker and spare.
        quarantine_after: number of workers that the same source with the same pipeline may kill, by a crash or by not stopping
            at the deadline, before it is refused with `TaskQuarantined` for `quarantine_time` seconds. None: no limit.
        max_tasks_per_worker, max_worker_age, max_worker_memory: number of tasks, age in seconds, and private memory between two
            tasks (bytes, or as in "500MiB") at which a worker is replaced, by one that is ready before. Each limit varies by a
            fifth (the memory downwards), so that not all workers are replaced at once. None: no limit.
        executable: the Python interpreter that runs the workers, or a list of it and its first arguments. Default: this
            program's own. A frozen program needs one that has offloop and the plugins, unless it calls `freeze_support`.
        environment: variables of the workers beside the server's; None removes one. Default, unless the server's environment
            has other values: one thread for OpenMP, BLAS and similar libraries, and a malloc that returns large blocks at once.

    Raises:
        ValueError, TypeError: a setting is out of its range, or of the wrong type.
    """

    _entered = False
    _stager: SourceStager
    _registry: Registry
    _planner: Planner

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
    ) -> None:
        """Check the settings. Nothing is started before the pool is entered."""
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
        )
        self._launcher: Launcher = ProcessLauncher(self._settings.worker_program())  # offloop.testing sets other launchers
        self._supervisor: Supervisor | None = None

    async def __aenter__(self) -> Self:
        """Import the plugins in a thread, and start the workers. Returns when all starts have ended. Works once for a pool.

        Raises:
            PluginError: a plugin that was asked for by name cannot be used.
            WorkerDied: no worker could be started; the error has the worker's last output.
            PoolClosed: the pool was entered before.
            PoolMisused: this system is not Linux, or this program cannot start workers (see `freeze_support`).
            ValueError: there is not enough memory for so many spares.
        """
        if self._entered:
            raise PoolClosed("a pool can be entered only once")
        self._entered = True
        self._registry, core_settings = await load(self._settings)
        self._planner = Planner(self._registry)
        supervisor = Supervisor(
            core_settings,
            WorkerConfig(
                plugins=self._registry.sources,
                nice=self._settings.nice,
                launch=self._launcher,
                max_private_bytes=core_settings.hard_limit_bytes,
                memory_pressure=memory_pressure,
            ),
        )
        self._supervisor = supervisor
        self._stager = SourceStager(supervisor)
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

    async def run(
        self,
        source: Source,
        pipeline: Iterable[Operation],
        *,
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        to: str | os.PathLike[str] | None = None,
    ) -> Result:
        """Run a pipeline on a source in a worker, and return the result in shared memory.

        Args:
            source: bytes-like (copied once), a `pathlib.Path` (read in a thread; a `str` is refused), a `Buffer` (moved: its
                view is released), a `Result` (in place if its own worker is idle, else copied once), or an array of
                numbers, of 1 to 8 dimensions and any strides (copied once).
            pipeline: operations in the order in which they are applied.
            timeout: seconds that the task may run, from its start in a worker; None: no limit. Default: the pool's.
            queue_timeout: seconds that the task may wait for memory and for a worker; None: no limit.
            retries: number of retries if the task's worker dies. Default: the pool's.
            priority: -10 to 10. Each step has a head start of ten seconds in the queue over the next lower one.
            tenant: name of the tenant. Tenants with waiting tasks share the workers' time by their weights.
            to: the path of a file that the worker writes instead of returning bytes: completely or not at all. An existing
                file is replaced and keeps its mode; a symbolic link is replaced and not followed. Nothing is synchronized.

        Raises:
            InvalidTask: the source or the pipeline is invalid, or a file cannot be read.
            QueueFull, QueueTimeout: the queue is full; the task waited longer than `queue_timeout`, or would have had to.
            TaskTimeout: the task ran too long; it was told to stop, and after the grace its worker was killed. Or it was not
                started, because similar tasks take more than twice as long.
            TaskFailed: a processor refused the task or failed.
            WorkerDied: the task's worker crashed or was killed; `report` has the details.
            TaskQuarantined: this source with this pipeline has killed too many workers.
            MemoryLimitExceeded: the source, the result, or the task's estimated memory can never fit; or callers hold all
                memory, and released none for 30 seconds. Waiting for a result's memory does not count towards `timeout`.
            PluginError: a plugin's processor cannot be loaded.
            PoolClosed: the pool is not open, or was closed before the task ended.
            PoolMisused: called in another process, thread or loop than the pool's. All methods but `statistics` raise it.

        Cancelling the call removes the task from the queue, or stops it as a timeout does. The call ends when the task has
        its outcome and its memory is returned.
        """
        supervisor = self._open()
        options = TaskOptions.checked(
            self._settings,
            timeout=timeout,
            queue_timeout=queue_timeout,
            retries=retries,
            priority=priority,
            tenant=tenant,
            to=to,
        )
        material = classify(source)
        submission = Submission(supervisor, self._stager, self._planner.plan(pipeline), options)
        return await (submission.run(material) if options.output is None else submission.run_to_file(material))

    async def probe(self, source: Source) -> Header:
        """Read a source's header without decoding the source: media type, width, height.

        Reads only what the plugins ask for (256 KiB by default), in a thread, in pure Python. A `Buffer` is not moved.

        Raises:
            TaskFailed: with the code "unsupported_format": no plugin knows the format.
            InvalidTask: a file cannot be read, or the source is samples, which have no header.
        """
        background, nbytes = self._open().background, self._registry.probe_nbytes
        material = classify(source)
        match material:
            case Bytes(data, private) if private and data.c_contiguous:
                head = data[:nbytes]
            case Bytes(data):
                head = memoryview(await background.run_in_thread(read_head, data, nbytes, limiter=background.source_threads))
            case File(path):
                head = (await background.run_in_thread(read_file_head, path, nbytes, limiter=background.file_threads)).data
            case Buffer():
                head = material.view[:nbytes]
            case Result() if material.raster is None:
                head = material.data[:nbytes]
            case _:
                raise InvalidTask("samples have no header to probe; their shape says it all")
        header = await background.run_in_thread(self._registry.probe, head.toreadonly(), limiter=background.source_threads)
        if header is None:
            raise TaskFailed("unsupported_format", "no plugin of this pool knows the format of this source")
        return header

    def buffer(self, nbytes: int) -> Buffer:
        """Return a shared-memory buffer that the caller fills and passes as a source without a copy.

        Raises:
            ValueError, TypeError: `nbytes` is less than 1, or not a whole number.
            MemoryLimitExceeded: a buffer of this size can never fit.
        """
        supervisor = self._open()
        future = supervisor.request_input(check_nbytes("nbytes", nbytes, 1))
        future.check()
        return Buffer(supervisor, future)

    async def receive(
        self, byte_stream: AsyncIterable[bytes], *, max_bytes: int | None = None, expected_bytes: int | None = None
    ) -> Buffer:
        """Write a stream's chunks into shared memory as they arrive, and return them as one `Buffer`.

        Args:
            byte_stream: an async iterable of bytes-like chunks: `request.stream()`, or an anyio byte stream, which stays open.
            max_bytes: maximum length of the stream. Default: the inbox's capacity.
            expected_bytes: a hint, such as the Content-Length. This much memory is reserved before the first byte is read, so
                a stream that is not longer never waits for memory in the middle.

        Memory is reserved as the bytes arrive. A stream waits for more memory when there is none.

        Raises:
            SourceTooLarge: the stream has more than `max_bytes`.
            MemoryLimitExceeded: the stream is longer than the inbox can ever hold; or only streams that are being received
                hold memory, none of them can go on, and this is the youngest; or callers hold all memory (results, buffers),
                and none was returned for 30 seconds.
            InvalidTask: a chunk is not bytes-like.
            ValueError, TypeError: `max_bytes` or `expected_bytes` is negative, or not a whole number.

        If the call is cancelled or the stream raises an error, the memory is returned.
        """
        supervisor = self._open()
        limit = supervisor.core.settings.inbox_nbytes if max_bytes is None else check_nbytes("max_bytes", max_bytes, 0)
        expected = None if expected_bytes is None else check_nbytes("expected_bytes", expected_bytes, 0)
        future, received = await self._stager.receive(byte_stream, limit, expected)
        buffer = Buffer(supervisor, future)
        buffer.trim(received)
        return buffer

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
        return snapshot(self._supervisor.core)

    def events(self) -> EventSubscription:
        """Subscribe to pool events: an async iterator of all events from this call on, until the pool is closed.

        Yields `WorkerMoved` for each state change of each worker, with its cause, `WorkerCrashed` with a report, `TaskRetried`,
        and `BreakerMoved`. A subscription that is 10,000 events behind drops the oldest and counts them in `dropped`. End it by
        `close()`, `contextlib.aclosing`, or deletion. Without one, nothing is recorded. Tasks may share one subscription: each
        event goes to one of them.
        """
        return self._open().event_stream.subscribe()

    async def resize(self, workers: int) -> None:
        """Change the number of workers. Returns when new workers are ready and superfluous ones have exited.

        A superfluous worker finishes its current task first. Cancelling the call does not undo the change.

        Raises:
            ValueError, TypeError: `workers` is less than 1 or not a whole number, or too many for memory_limit.
            WorkerDied: no worker can be started.
            PoolClosed: the pool is not open, or was closed before the change was complete.
        """
        check_workers(workers)
        supervisor = self._open()
        check_room(workers, supervisor.core.settings)
        await supervisor.conditions.resize(supervisor.apply, workers)

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

    def _open(self) -> Supervisor:
        supervisor = self._supervisor
        if supervisor is None or supervisor.core.phase is not PoolPhase.OPEN:
            raise PoolClosed
        supervisor.affinity.check()
        supervisor.gate.raise_if_failed()
        return supervisor
