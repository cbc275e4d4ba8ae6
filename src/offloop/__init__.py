"""offloop: runs heavy work of an async server in supervised worker processes, over shared memory.

The layers. Each imports only layers below it:

    cli, testing, prometheus, otel, metrics                  the command line; tools for tests; exporters
    pool, settings, startup, statistics, system              what users import, configure and read
    functions                                                the built-in plugin: any importable function
    client                                                   one call of `Pool.run` from its caller's side
    plugins                                                  discovery, registry, planner, estimator
    runtime                                                  executes commands: processes, sockets, segments, timers (anyio)
    core                                                     decides: events in, commands out (pure)
    wire                                                     messages between supervisor and worker (pure)

    worker                                                   the worker process: imports wire and the contracts, nothing else
    operation, processor, sandbox, errors, pool_events, ...  the contracts: what plugin authors import

Names are imported on first use, because a worker imports this package too and must not load the server's modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.async_pool import AsyncPool
    from .client.batches.batch import Batch
    from .client.batches.batch_progress import BatchProgress
    from .client.buffers import Buffer
    from .client.outcome import Outcome
    from .client.outputs.frames import Frame, FrameStream
    from .client.outputs.named_outcomes import NamedOutcomes
    from .client.results import Info, Result, Timings
    from .errors import (
        CrashReport,
        InternalError,
        InvalidTask,
        MemoryLimitExceeded,
        OffloopError,
        PluginError,
        PoolClosed,
        PoolMisused,
        QueueFull,
        QueueTimeout,
        SourceTooLarge,
        StreamAbandoned,
        TaskFailed,
        TaskQuarantined,
        TaskTimeout,
        WorkerDied,
    )
    from .functions.context import Context
    from .functions.declaration import function
    from .functions.resource import resource
    from .histogram import Histogram
    from .operation import Attachment, Estimate, Header, Operation, Plugin, SourceHeader
    from .pool import Pool
    from .pool_events import (
        BreakerMoved,
        PluginUnavailable,
        PoolEvent,
        PoolObserver,
        SandboxReported,
        TaskEnded,
        TaskRetried,
        WorkerCrashed,
        WorkerMemoryTooSmall,
        WorkerMoved,
    )
    from .processor import Encoded, Output, Payload, Processor, Raster, SharingProcessor, Task, TaskCancelled, WorkerContext
    from .program import freeze_support
    from .runtime.telemetry.event_stream import EventSubscription
    from .runtime.telemetry.progress_monitor import Progress
    from .sandbox import Needs, Posture
    from .settings import WorkerGroup
    from .statistics import GroupStatistics, Health, Statistics
    from .task_options import StreamKeywords, TaskKeywords

__all__ = [
    "AsyncPool",
    "Attachment",
    "Batch",
    "BatchProgress",
    "BreakerMoved",
    "Buffer",
    "Context",
    "CrashReport",
    "Encoded",
    "Estimate",
    "EventSubscription",
    "Frame",
    "FrameStream",
    "GroupStatistics",
    "Header",
    "Health",
    "Histogram",
    "Info",
    "InternalError",
    "InvalidTask",
    "MemoryLimitExceeded",
    "NamedOutcomes",
    "Needs",
    "OffloopError",
    "Operation",
    "Outcome",
    "Output",
    "Payload",
    "Plugin",
    "PluginError",
    "PluginUnavailable",
    "Pool",
    "PoolClosed",
    "PoolEvent",
    "PoolMisused",
    "PoolObserver",
    "Posture",
    "Processor",
    "Progress",
    "QueueFull",
    "QueueTimeout",
    "Raster",
    "Result",
    "SandboxReported",
    "SharingProcessor",
    "SourceHeader",
    "SourceTooLarge",
    "Statistics",
    "StreamAbandoned",
    "StreamKeywords",
    "Task",
    "TaskCancelled",
    "TaskEnded",
    "TaskFailed",
    "TaskKeywords",
    "TaskQuarantined",
    "TaskRetried",
    "TaskTimeout",
    "Timings",
    "WorkerContext",
    "WorkerCrashed",
    "WorkerDied",
    "WorkerGroup",
    "WorkerMemoryTooSmall",
    "WorkerMoved",
    "freeze_support",
    "function",
    "resource",
]

_NAMES_BY_MODULE = {
    "client.async_pool": ("AsyncPool",),
    "client.batches.batch": ("Batch",),
    "client.batches.batch_progress": ("BatchProgress",),
    "client.buffers": ("Buffer",),
    "client.outputs.frames": ("Frame", "FrameStream"),
    "client.outputs.named_outcomes": ("NamedOutcomes",),
    "client.outcome": ("Outcome",),
    "functions.context": ("Context",),
    "functions.declaration": ("function",),
    "functions.resource": ("resource",),
    "program": ("freeze_support",),
    "runtime.telemetry.progress_monitor": ("Progress",),
    "runtime.telemetry.event_stream": ("EventSubscription",),
    "histogram": ("Histogram",),
    "pool_events": (
        "BreakerMoved",
        "PluginUnavailable",
        "PoolEvent",
        "PoolObserver",
        "SandboxReported",
        "TaskEnded",
        "TaskRetried",
        "WorkerCrashed",
        "WorkerMemoryTooSmall",
        "WorkerMoved",
    ),
    "operation": ("Attachment", "Estimate", "Header", "Operation", "Plugin", "SourceHeader"),
    "pool": ("Pool",),
    "sandbox": ("Needs", "Posture"),
    "processor": (
        "Encoded",
        "Output",
        "Payload",
        "Processor",
        "Raster",
        "SharingProcessor",
        "Task",
        "TaskCancelled",
        "WorkerContext",
    ),
    "client.results": ("Info", "Result", "Timings"),
    "settings": ("WorkerGroup",),
    "statistics": ("GroupStatistics", "Health", "Statistics"),
    "task_options": ("StreamKeywords", "TaskKeywords"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF.get(name, 'errors')}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
