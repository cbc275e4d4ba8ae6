"""What users hold: `async with Pool() as pool`, then `await pool.run(source, pipeline)`."""

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
from .runtime.files.output_files import OutputFile, destination_path
from .runtime.files.source_files import read_file_head
from .runtime.memory.source_memory import read_head
from .runtime.supervisor import Supervisor
from .runtime.telemetry.event_stream import EventSubscription
from .runtime.workers.config import WorkerConfig
from .runtime.workers.launcher import Launcher
from .runtime.workers.process import ProcessLauncher
from .settings import PoolSettings, check_nbytes, check_order, check_retries, check_room, check_seconds, check_workers
from .startup import load
from .statistics import Statistics, snapshot
from .system import memory_pressure

__all__ = ["Pool"]


class Pool:
    """Worker processes and shared memory beside an async server.

        async with Pool() as pool:
            result = await pool.run(data, [Resize(720, 588), Webp()])

    Enter it once, for instance in the server's lifespan, and share it between requests. Leaving the block ends every
    task that it still holds with `PoolClosed`, and ends and reaps every worker, also when the block is left by an
    exception or a cancellation. Results that are still referred to stay valid.

    Args:
        workers: tasks that may run at once, each in a process of its own. Default: the CPUs that this process may
            use (affinity, cgroup quota).
        min_workers, max_workers: instead of `workers`: processes that are kept, and tasks that may run at once. More are
            started when tasks wait, and leave when they have not been needed for `idle_timeout` seconds.
        memory_limit: bytes that everything may take together, as a number or as "2GiB": sources and results in shared memory,
            idle workers, and what running tasks are estimated to need. Default: half of the memory that the process may use.
            Shared memory is bounded by nine tenths of what /dev/shm has free, too. A limit too small for idle workers
            bounds shared memory only. A limit that is given and cannot be kept is a warning in the log.
        admission: "enforce": a task waits until there is memory for it, and is stopped if it takes far more than was
            estimated; "shadow": it is only counted how many would have waited; "off".
        timeout: seconds that a task may run, unless `run` says otherwise. None: for ever.
        max_queue, max_queue_bytes: tasks that may wait, and bytes that their sources may have (or as in "1GiB"); beyond that
            one is refused with `QueueFull`. None: any number.
        spares: ready workers beyond that. When a worker dies, a spare takes its place at once, without the wait
            for a start, and has loaded the plugins that have been of use in this pool. Each costs the memory
            of an idle process, and 256 KiB of `memory_limit`.
        plugins: names of installed plugins, "module:attribute" references, or plugins. Default: every installed one.
        grace: seconds between telling a task or a worker to stop and SIGKILL.
        start_timeout: seconds from starting a worker to its being ready.
        nice: how much lower than the server's the workers' priority is, 0 to 19: the loop comes first when all CPUs
            are busy. "idle": workers have only what nobody else wants, and the loop interrupts them at once; but a server
            that keeps all CPUs busy by itself brings its workers to a halt. A worker that is there for small tasks
            beside large ones (a helper; up to as many as `workers`) has a higher priority than the others.
        tenant_weights: the shares of the workers' time that tenants have while they compete, where they are not 1.
        retries: how often a task whose worker died of it is run again, each time on a worker that has had no task before.
            For pipelines that may be run twice. A time-out is not a death.
        restart_intensity: crashes within `restart_period` seconds that are answered with a new worker at once; beyond
            them starts are spaced out, and one worker at a time is tried until it has done a task, or has stayed well
            for a while. Default: 5 for each worker and spare.
        quarantine_after: workers that the same source with the same pipeline may kill, or have killed by not stopping at the
            deadline, before it is refused with `TaskQuarantined`, for `quarantine_time` seconds. None: any number.
        max_tasks_per_worker, max_worker_age, max_worker_memory: a worker that has done so many tasks, is so many seconds
            old, or has so much private memory between two tasks (bytes, or as in "500MiB"), is replaced: its replacement
            is ready before it leaves. Each varies by a fifth (the memory downwards), so that not all go at once. None:
            never.
        executable: the Python interpreter that runs the workers, or a list of it and its first arguments. Default: this
            program's own. A frozen program needs one that has offloop and the plugins, unless it calls `freeze_support`.
        environment: variables of the workers beside the server's; None removes one. Default: one thread for OpenMP, BLAS and
            their kin, and a malloc that gives large blocks back at once, where the server's environment does not say.

    Raises:
        ValueError, TypeError: a setting is out of its range.
    """

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
        """Check the settings; nothing is started before the pool is entered."""
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
        self._launcher: Launcher = ProcessLauncher(self._settings.worker_program())  # offloop.testing sets others
        self._entered = False
        self._supervisor: Supervisor | None = None
        self._stager: SourceStager
        self._registry: Registry
        self._planner: Planner

    async def __aenter__(self) -> Self:
        """Import the plugins, in a thread, and start the workers; returns when each has had its start. Works once for a pool.

        Raises:
            PluginError: a plugin that was asked for by name cannot be used.
            WorkerDied: no worker could be started; its last words are in the error.
            PoolClosed: the pool was entered before.
            PoolMisused: this system is not Linux, or this program cannot start workers (see `freeze_support`).
            ValueError: there is not memory enough for so many spares.
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
        """End every task and worker; takes the grace at most, plus the time that the system needs to kill and reap.

        Any task of the loop may call it, also after the pool is closed. A cancellation meanwhile is raised when it is done.
        In a forked child it does nothing, because the pool is the parent's.

        Raises:
            PoolMisused: this is another thread or event loop than the one that entered the pool.
            InternalError: a defect of offloop has ended the pool before.
        """
        supervisor = self._supervisor
        if supervisor is None or supervisor.affinity.forked:
            return  # in a forked child nothing can be awaited: the loop is the parent's
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
        """Carry out a pipeline on a source in a worker, and return the result in shared memory.

        Args:
            source: bytes-like (copied once), a `pathlib.Path` (read in a thread; a `str` is refused), a `Buffer` (moved: its
                view is released), a `Result` (in place where its own worker is free, else copied once), or an array of
                numbers, of 1 to 8 dimensions and any strides (copied once).
            pipeline: operations in the order in which they are applied.
            timeout: seconds that the task may run, from its start in a worker; None: for ever. Default: the pool's.
            queue_timeout: seconds that it may wait for memory and for a worker; None: for ever.
            retries: how often it is run again if its worker dies of it. Default: the pool's.
            priority: its class, -10 to 10. A higher one has a head start of ten seconds for each class between them.
            tenant: on whose account it is. Tenants that have tasks waiting share the workers' time by their weights.
            to: the path of a file that the worker writes instead of returning bytes: whole or not at all. A file that is there
                is replaced and keeps its mode; a symbolic link is replaced and not followed. Nothing is synchronized.

        Raises:
            InvalidTask: the source or the pipeline makes no sense, or a file cannot be read.
            QueueFull, QueueTimeout: too much waits already; it waited too long, or would have had to.
            TaskTimeout: it ran too long; it was told to stop, and after the grace its worker was killed. Or tasks like it take
                more than twice as long: then it was not started.
            TaskFailed: a processor refused or failed to carry it out.
            WorkerDied: its worker crashed or was killed; `report` has all that is known of it.
            TaskQuarantined: this source with this pipeline has killed too many workers.
            MemoryLimitExceeded: source, result, or what the task is estimated to need can never fit; or callers hold all
                shared memory (results, buffers), and nothing came back for 30 seconds. Waiting for the memory of a result is no
                part of `timeout`.
            PluginError: a plugin's processor cannot be loaded.
            PoolClosed: the pool is not open, or was closed meanwhile.
            PoolMisused: this is another process, thread or event loop than the one that entered the pool. So with all methods
                but `statistics`.

        Cancelling the call takes the task out of the queue, or stops it as a timeout would; the call ends when the
        task's fate is settled and its memory is back.
        """
        supervisor = self._open()
        if timeout is ...:
            timeout = self._settings.timeout
        elif timeout is not None:
            check_seconds("timeout", timeout)
        if queue_timeout is not None:
            check_seconds("queue_timeout", queue_timeout)
        if priority or tenant is not None:
            check_order(priority, tenant)
        material = classify(source)
        plan = self._planner.plan(pipeline)
        retries = self._settings.retries if retries is None else check_retries(retries)
        output = None if to is None else OutputFile(destination_path(to))
        submission = Submission(supervisor, self._stager, plan, timeout, queue_timeout, retries, priority, tenant, output)
        return await (submission.run(material) if output is None else submission.run_to_file(material, output))

    async def probe(self, source: Source) -> Header:
        """What a source's first bytes declare, without decoding it: media type, width, height.

        Reads no more than the plugins ask for (256 KiB by default), in a thread, in pure Python. The source is not used up.

        Raises:
            TaskFailed: with the code "unsupported_format", if no plugin knows it.
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
        """A piece of the inbox for the caller to fill, and then to pass as a source without a copy.

        Raises:
            ValueError, TypeError: `nbytes` is not at least 1, or no whole number.
            MemoryLimitExceeded: a source can never be that large.
        """
        supervisor = self._open()
        future = supervisor.request_input(check_nbytes("nbytes", nbytes, 1))
        future.check()
        return Buffer(supervisor, future)

    async def receive(
        self, byte_stream: AsyncIterable[bytes], *, max_bytes: int | None = None, expected_bytes: int | None = None
    ) -> Buffer:
        """Write a stream's chunks into the inbox as they come, and return them as one `Buffer`.

        Args:
            byte_stream: an async iterable of bytes-like chunks: `request.stream()`, or an anyio byte stream, which stays open.
            max_bytes: refuse more than this. Default: what the inbox may hold.
            expected_bytes: a hint, such as the Content-Length: so much memory is there before the first byte is read, so a
                stream that is no longer never waits half-way.

        Memory is taken as the bytes come, and a stream waits for more of it when there is none.

        Raises:
            SourceTooLarge: more than `max_bytes` came.
            MemoryLimitExceeded: more came than the inbox can ever hold; or only streams that are being received hold memory,
                none of them can go on, and this is the youngest; or callers hold all memory (results, buffers), and nothing
                came back for 30 seconds.
            InvalidTask: a chunk is not bytes-like.
            ValueError, TypeError: `max_bytes` or `expected_bytes` is negative, or no whole number.

        Cancelling it, or an error in the stream, gives the memory back.
        """
        supervisor = self._open()
        limit = supervisor.core.settings.inbox_nbytes if max_bytes is None else check_nbytes("max_bytes", max_bytes, 0)
        expected = None if expected_bytes is None else check_nbytes("expected_bytes", expected_bytes, 0)
        future, received = await self._stager.receive(byte_stream, limit, expected)
        buffer = Buffer(supervisor, future)
        buffer.trim(received)
        return buffer

    def statistics(self) -> Statistics:
        """The pool in numbers, at this moment. Also after it was closed: the last numbers; in a forked child: the fork's.

        From any thread; in another than the pool's own the numbers may be of two moments.
        """
        if self._supervisor is None:
            raise PoolClosed("the pool was never entered")
        if self._supervisor.affinity.is_current:
            self._supervisor.collect_returns()
        return snapshot(self._supervisor.core)

    def events(self) -> EventSubscription:
        """Watch the pool: an async iterator of what happens from this call on, until the pool is closed.

        Yields `WorkerMoved` for each step of each worker, with its cause, `WorkerCrashed` with a report, `TaskRetried`, and
        `BreakerMoved`. A reader that is 10,000 events behind loses the oldest, counted in its `dropped`. Close it with
        `close()`, or with `contextlib.aclosing`, when it has seen enough, or forget it. Without a reader nothing is
        recorded. Several tasks may read one: each event goes to one of them.
        """
        return self._open().event_stream.subscribe()

    async def resize(self, workers: int) -> None:
        """Let so many tasks run at once from now on; returns when the workers for it are ready and the superfluous ones gone.

        Those leave between two tasks, so this waits for their present ones. Cancelling it does not undo it.

        Raises:
            ValueError, TypeError: `workers` is not at least 1, or memory_limit leaves no room for so many.
            WorkerDied: no worker can be started.
            PoolClosed: the pool is not open, or was closed meanwhile.
        """
        check_workers(workers)
        supervisor = self._open()
        check_room(workers, supervisor.core.settings)
        await supervisor.conditions.resize(supervisor.apply, workers)

    async def drain(self, timeout: float | None = None) -> bool:
        """Take nothing new, let what is held end, and close the pool: for the moments before a server stops.

        Args:
            timeout: seconds after which what is still there is stopped as by leaving the block; None: never.

        Returns:
            Whether everything ended by itself.

        Calls that come meanwhile get `PoolClosed`, and so does an `async with` that has not opened the pool yet. Cancelling it
        leaves the pool open for what it holds, and closed for others.
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
