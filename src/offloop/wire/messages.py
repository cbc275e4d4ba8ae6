"""The messages between the supervisor and a worker: MessagePack arrays, each with a tag.

A new message is added here, to the union of its direction, and to the receiving end. No other module lists the messages.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..sandbox import Needs, Posture, SandboxMode
from .handles import EncodedAt, Handle, RasterAt, WrittenTo

__all__ = [
    "Cancel",
    "Configure",
    "Credit",
    "Done",
    "Failed",
    "File",
    "FromSupervisor",
    "FromWorker",
    "Grant",
    "InfoValue",
    "Loading",
    "Need",
    "NeedFile",
    "Output",
    "OutputFailed",
    "PluginSource",
    "Ready",
    "Retire",
    "Run",
    "Skipped",
    "Stage",
]


_Scalar = None | bool | int | float | str
InfoValue = _Scalar | list[_Scalar] | dict[str, _Scalar]  # a value in the info of a result


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Stage(_Message, frozen=True):
    """Consecutive operations of one plugin."""

    plugin: str
    operations: msgspec.Raw  # encoded array of operations, because only the plugin's own types can decode it


class PluginSource(_Message, frozen=True):
    """How a worker loads a plugin."""

    reference: str  # "module:attribute" of the plugin
    settings_type: str | None = None  # "module:attribute" of the type of the settings; None: the plugin has no settings
    settings: bytes | None = None  # encoded settings; None: the plugin has no settings


# Supervisor to worker


class Configure(_Message, frozen=True, tag="configure"):
    """The configuration of a worker. It is the first message, and sent once."""

    slot: int  # index of the worker's slot in the pool
    inbox_nbytes: int  # size of the inbox segment in bytes
    outbox_nbytes: int  # size of the worker's outbox segment in bytes
    plugins: dict[str, PluginSource]  # plugins by name
    nice: int | Literal["idle"] = 0  # increment to the server's niceness; "idle": only CPU time that no other process wants
    max_private_bytes: int | None = None  # limit of the process's private memory for its lifetime; None: no limit
    log_level: int = 30  # lowest `logging` level of plugin code's records that the worker writes
    sandbox: SandboxMode = "off"  # setting of the worker's group
    needs: Needs = Needs()  # what the sandbox allows after the plugins are loaded


class Run(_Message, frozen=True, tag="run"):
    """Carry out one task, after the tasks that were sent before. See `wire.claims`: it may be withdrawn until it is begun."""

    task_id: int
    sources: tuple[EncodedAt | RasterAt, ...]  # the first one is the payload of the first stage
    stages: list[Stage]
    grant: Handle | None  # preallocated result memory; None: the preallocated block of an earlier `Run` that has no result yet
    to_file: bool = False  # whether the result goes into a file; the worker sends `NeedFile` when the result is ready
    threads: int = 1  # maximum number of threads that the task may compute with
    private_bytes: int | None = None  # limit of the task's private memory, beyond the process's before it; None: no limit
    credit: int = 0  # number of outputs that the task may hand over before its end; 0: nothing receives them
    pipelines: dict[str, int] = {}  # numbers of stages of named pipelines, in the order of `stages`; empty: it is one pipeline
    previews: int = 0  # number of previews among the outputs of `credit`
    labels: dict[str, str] = {}  # labels of its caller, for the log lines and the code of the task
    number: int = 0  # number of the `Run`, which increases with each one to this process; 0: the worker queues none


class Grant(_Message, frozen=True, tag="grant"):
    """The answer to `Need`."""

    task_id: int
    block: Handle | None  # granted result memory; None: the pool can never grant that much


class File(_Message, frozen=True, tag="file"):
    """The answer to `NeedFile`."""

    task_id: int
    opened: bool  # whether the file's descriptor comes with this message (SCM_RIGHTS); if not, the task fails


class Credit(_Message, frozen=True, tag="credit"):
    """More outputs of the task have a receiver."""

    task_id: int
    outputs: int  # number of outputs that the task may hand over before its end, counted from its start
    grants: list[Handle] = []  # result memory for the next outputs, which the task need not request


class Cancel(_Message, frozen=True, tag="cancel"):
    """Stop the task and answer for it. The worker ignores the message if it runs another task or none."""

    task_id: int


class Retire(_Message, frozen=True, tag="retire"):
    """Exit with code 0 as soon as no task runs."""


# Worker to supervisor


class Loading(_Message, frozen=True, tag="loading"):
    """The worker is configured and loads its plugins. Sent once, before `Ready`."""

    pid: int  # process id, in the worker's PID namespace


class Ready(_Message, frozen=True, tag="ready"):
    """The worker has loaded its plugins and waits for a task. Sent once."""

    pid: int  # process id, in the worker's PID namespace
    private_bytes: int = 0  # private memory of the process, in bytes; 0: not measured
    failed: dict[str, str] = {}  # reasons by name of the plugins that could not be loaded; their tasks fail
    sandbox: Posture | None = None  # layers of the worker's sandbox; None: the worker reports none
    queues_runs: bool = False  # whether a `Run` may be sent while the worker has a task


class Need(_Message, frozen=True, tag="need"):
    """The running task requests another block of result memory, and waits for `Grant`."""

    task_id: int
    nbytes: int  # requested size in bytes


class NeedFile(_Message, frozen=True, tag="need_file"):
    """The running task has its result, requests the file for it, and waits for `File`."""

    task_id: int


class Output(_Message, frozen=True, tag="output"):
    """The running task hands over an output before its end. The block belongs to the caller from then on."""

    task_id: int
    name: str  # name of the output; "": it has none
    output: EncodedAt | RasterAt
    info: dict[str, InfoValue]  # the user's `result.info`
    started_ns: int  # as in `Done`
    finished_ns: int  # time at which the output was complete, as in `Done`
    last: bool = False  # whether it is the result of the named pipeline


class OutputFailed(_Message, frozen=True, tag="output_failed"):
    """A named pipeline of the running task failed. The others go on."""

    task_id: int
    name: str  # name of the pipeline
    code: str  # as in `Failed`
    message: str  # as in `Failed`
    traceback: str | None  # as in `Failed`
    exception_type: str = ""  # as in `Failed`


class Done(_Message, frozen=True, tag="done"):
    """The task succeeded. All blocks that it was granted, except those of its outputs, are free."""

    task_id: int
    output: EncodedAt | RasterAt | WrittenTo | None  # the last output; None: the task has handed over all of them before
    info: dict[str, InfoValue]  # the user's `result.info`
    started_ns: int  # start of the task on the system's monotonic clock, in nanoseconds
    finished_ns: int  # end of the task on the system's monotonic clock, in nanoseconds
    private_bytes: int = 0  # private memory of the process before the task, in bytes; up to 50 ms old
    peak_bytes: int = 0  # peak of the private memory during the task, in bytes above `private_bytes`; 0: too short to measure
    cpu_ns: int = 0  # CPU time of all threads during the task, in nanoseconds; 0: too short to measure
    recycle: bool = False  # whether the worker has to be replaced, and gets no further task


class Failed(_Message, frozen=True, tag="failed"):
    """The task failed. The worker can run other tasks."""

    task_id: int
    code: str  # code of the `TaskFailed`, "cancelled", "invalid_task", "memory_limit", "exception" or "plugin_error:<plugin>"
    message: str  # text of the error
    traceback: str | None  # formatted traceback; None: the error is not a defect of plugin code
    started_ns: int  # as in `Done`
    finished_ns: int  # as in `Done`
    private_bytes: int = 0  # as in `Done`
    peak_bytes: int = 0  # as in `Done`
    cpu_ns: int = 0  # as in `Done`
    recycle: bool = False  # as in `Done`
    exception_type: str = ""  # type of the exception, with its module unless it is a builtin one; "": another code


class Skipped(_Message, frozen=True, tag="skipped"):
    """The worker did not begin the task, because it was withdrawn, or because the worker is to be replaced."""

    task_id: int
    number: int  # number of the `Run`, because the task may have been sent again


FromSupervisor = Configure | Run | Grant | Credit | File | Cancel | Retire
FromWorker = Loading | Ready | Need | NeedFile | Output | OutputFailed | Done | Failed | Skipped
