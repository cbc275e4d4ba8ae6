"""All that supervisor and worker ever say to each other: MessagePack arrays, each with a tag.

Adding a message means adding it here, to the union of its direction, and to the receiving end; nothing else knows the list.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .handles import EncodedAt, Handle, RasterAt, WrittenTo

__all__ = [
    "MAX_UNLESS_FAILED_NBYTES",
    "Cancel",
    "Configure",
    "Done",
    "Failed",
    "File",
    "FromSupervisor",
    "FromWorker",
    "Grant",
    "InfoValue",
    "Need",
    "NeedFile",
    "PluginSource",
    "Ready",
    "Retire",
    "Run",
    "Stage",
    "Warm",
]


MAX_UNLESS_FAILED_NBYTES = 64 * 1024
"""What a worker may say at once, but for the texts of a failure: the info of a result is made of many small objects, and a
mebibyte of it takes the decoder, and so the event loop, up to 42 ms."""


_Scalar = None | bool | int | float | str
InfoValue = _Scalar | list[_Scalar] | dict[str, _Scalar]  # what a plugin may say of a result


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Stage(_Message, frozen=True):
    """Consecutive operations of one plugin."""

    plugin: str
    operations: msgspec.Raw  # an array of operations, still encoded: only the plugin's own types can decode it


class PluginSource(_Message, frozen=True):
    """How a worker loads a plugin."""

    reference: str  # "module:attribute" of the light half
    settings_type: str | None = None  # "module:attribute" of the struct that the settings are; None: there are none
    settings: bytes | None = None  # encoded


# Supervisor to worker


class Configure(_Message, frozen=True, tag="configure"):
    """The first message, once."""

    slot: int
    inbox_nbytes: int
    outbox_nbytes: int
    plugins: dict[str, PluginSource]  # by name
    nice: int | Literal["idle"] = 0  # how much nicer than the server; or it has only what nobody else wants
    max_private_bytes: int | None = None  # that the process may ever have for itself; None: any number
    helper: bool = False  # it has small tasks beside large ones, and is to have more of a CPU than those
    log_level: int = 30  # records of plugin code below this level are not written


class Run(_Message, frozen=True, tag="run"):
    """Carry out one task. Sent to an idle worker only."""

    task_id: int
    source: EncodedAt | RasterAt
    stages: list[Stage]
    grant: Handle | None  # result memory to begin with; None: what it was given so before and has not used
    to_file: bool = False  # the result goes into a file, which the worker asks for when it has the result
    threads: int = 1  # that the task may compute with
    private_bytes: int | None = None  # memory that it may take beyond what the process has for itself; None: any amount


class Grant(_Message, frozen=True, tag="grant"):
    """The answer to `Need`. No block: there will never be that much."""

    task_id: int
    block: Handle | None


class File(_Message, frozen=True, tag="file"):
    """The answer to `NeedFile`."""

    task_id: int
    opened: bool  # the file's descriptor comes with this message (SCM_RIGHTS); else there is none, and the task fails


class Cancel(_Message, frozen=True, tag="cancel"):
    """Stop that task and answer for it. Ignored when it is not the one that runs."""

    task_id: int


class Warm(_Message, frozen=True, tag="warm"):
    """Load these plugins' processors ahead of the first task. Sent to a worker that has had none."""

    plugins: list[str]


class Retire(_Message, frozen=True, tag="retire"):
    """Exit with code 0 as soon as nothing runs."""


# Worker to supervisor


class Ready(_Message, frozen=True, tag="ready"):
    """Configured and waiting, once."""

    pid: int


class Need(_Message, frozen=True, tag="need"):
    """The running task wants another block of result memory, and waits for it."""

    task_id: int
    nbytes: int


class NeedFile(_Message, frozen=True, tag="need_file"):
    """The running task has its result, wants the file that it goes into, and waits for it."""

    task_id: int


class Done(_Message, frozen=True, tag="done"):
    """The task succeeded; whatever else it was granted is free."""

    task_id: int
    output: EncodedAt | RasterAt | WrittenTo
    info: dict[str, InfoValue]
    started_ns: int  # on the system's monotonic clock
    finished_ns: int
    private_bytes: int = 0  # memory of the process that nobody shares, between two tasks, when it last looked
    peak_bytes: int = 0  # of it at the highest, beyond that; 0: the task was too short to look
    cpu_ns: int = 0  # CPU time, in all threads
    recycle: bool = False  # the worker is to be replaced, and to have no other task


class Failed(_Message, frozen=True, tag="failed"):
    """The task did not succeed; the worker is well."""

    task_id: int
    code: str
    message: str
    traceback: str | None
    started_ns: int
    finished_ns: int
    private_bytes: int = 0
    peak_bytes: int = 0
    cpu_ns: int = 0
    recycle: bool = False


FromSupervisor = Configure | Run | Grant | File | Cancel | Warm | Retire
FromWorker = Ready | Need | NeedFile | Done | Failed
