"""Contracts for the half of a plugin that the server imports: operations, headers, estimates, and the plugin itself.

A plugin declares operations and checks them. Its processor (`offloop.processor`), which only workers import, carries them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import GenericAlias
from typing import Any, ClassVar, Literal, get_args, get_origin

import msgspec

from .errors import InvalidTask
from .sandbox import Needs

__all__ = [
    "DEFAULT_GROUP",
    "SMALL_TASKS_GROUP",
    "Attachment",
    "Estimate",
    "Header",
    "Operation",
    "Plugin",
    "SourceHeader",
    "decoder_for",
]

DEFAULT_GROUP = "default"  # name of the worker group that the settings of `Pool` describe
SMALL_TASKS_GROUP = "small"  # name of the worker group for small tasks beside large ones of the default group


class Attachment:
    """A further source of a task, in a field of an operation: a watermark, a mask, a second table.

        class Composite(Operation, frozen=True):
            overlay: Attachment
            opacity: float = 1.0

        await pool.run(photo, [Composite(Attachment(Path("logo.png"))), Webp()])

    The field may also be `Attachment | None`, or a list, tuple or dict of attachments. A source without `Attachment` around it
    is wrapped when the operation is created. The pool stages the source beside the first one, and the processor finds it at
    `task.sources[operation.overlay.index]`. Two attachments are equal if they have the same source object.
    """

    __slots__ = ("index", "source")

    source: Any
    """The source, as for `Pool.run`; None in a worker, and in `Plugin.check` and `Plugin.estimate_sources`."""

    index: int
    """Index in the task's sources, from 1; 0 until the pool has prepared the pipeline."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.index = 0

    @classmethod
    def at(cls, index: int) -> Attachment:
        """Returns the attachment that a processor gets, for its unit tests."""
        attachment = cls(None)
        attachment.index = index
        return attachment

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attachment) and self.source is other.source and self.index == other.index

    def __hash__(self) -> int:
        return hash((id(self.source), self.index))

    def __repr__(self) -> str:
        return f"Attachment.at({self.index})" if self.index else f"Attachment(<{type(self.source).__name__}>)"


class Operation(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """Typed, frozen parameters of one step. Subclass it and annotate the fields. Every instance is checked when it is created.

    Types and `msgspec.Meta` constraints are enforced. A value is converted if that loses nothing (a list to a tuple). Any other
    value raises `InvalidTask`, which names the operation, the field and the value. Override `check` for a check of several
    fields.
    """

    previews: ClassVar[int] = 0
    """Maximum number of previews that the processor hands over for this operation, by `Task.preview`."""

    def __post_init__(self) -> None:
        """Convert and check every field.

        Raises:
            InvalidTask: a value has the wrong type or is out of range; no operation is created.
        """
        for name, type_ in _fields(type(self)):
            value = getattr(self, name)
            try:
                converted = msgspec.convert(value, type_, dec_hook=_wrap)
            except msgspec.ValidationError as error:
                raise InvalidTask(f"{type(self).__name__}({name}={value!r}): {error}{_choices(type_)}") from None
            if converted is not value:
                msgspec.structs.force_setattr(self, name, converted)
        self.check()

    def check(self) -> None:
        """Override this to refuse combinations of fields. It raises `InvalidTask`."""

    def cost_kind(self) -> str | None:
        """Override this if the fields hold data of one task rather than parameters of many: return what the costs of such
        tasks depend on. The pool then learns the costs of all tasks with the same text together. None: of equal operations."""
        return None


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Format and dimensions that a source's first bytes declare. They are not proven, because nothing was decoded. A field is
    None if the header does not contain it."""

    media_type: str  # media type: "image/jpeg"
    width: int  # width in pixels, before any orientation tag is applied
    height: int  # height in pixels, before any orientation tag is applied
    bands: int | None = None  # number of channels
    orientation: int | None = None  # EXIF orientation, 1 to 8
    bits: int | None = None  # bits of one sample
    pages: int | None = None  # number of frames of an animation, or of pages of a document
    progressive: bool | None = None  # whether it is coded in several passes over the picture (progressive JPEG, interlaced PNG)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types, with the fields of a plugin's subclass."""
        return msgspec.to_builtins(self)


class SourceHeader(msgspec.Struct, frozen=True):
    """What is known of one of several sources before it is staged."""

    header: Header | None  # its header, as for `Plugin.estimate`
    nbytes: int  # its length in bytes


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Expected memory and time of operations in a worker. The pool corrects it by measurements of tasks of the same kind."""

    peak_bytes: int  # peak of private memory in bytes, above an idle worker with this plugin, without result memory
    work_s: float = 0.0  # CPU time in seconds on an ordinary machine; 0: unknown, it is learned
    output_bytes: int = 0  # result memory in bytes


class Plugin:
    """Base class of a plugin. An entry point in the group `offloop.processors` names a subclass or an instance."""

    name: ClassVar[str]
    """Short identifier, unique in a pool: "vips"."""

    operations: ClassVar[tuple[type[Operation], ...]]
    """All operations that the processor can carry out."""

    processor: ClassVar[str]
    """The processor as "module:Class". It is text, because only a worker imports it."""

    probe_nbytes: ClassVar[int] = 256 * 1024
    """Maximum number of a source's first bytes that `probe` gets. 0: the estimates do not depend on the source; `probe` is not
    called, and `estimate` is called once for a pipeline, without a header and with 0 as the length."""

    quick: ClassVar[bool] = False
    """Whether `probe` and `estimate` together take well under a millisecond for any bytes. If so, both are called on the event
    loop instead of a thread, which saves time for each task. Test this promise with hostile sources."""

    group: ClassVar[str | None] = None
    """Name of a worker group of its own: "onnx". The group has no worker until the first task for it, and none again when it
    was idle for a while; `Pool(groups=[WorkerGroup("onnx", ...)])` changes its settings. Plugins may share a group. None: every
    worker of the default group loads the plugin."""

    companions: ClassVar[tuple[str, ...]] = ()
    """Names of the plugins that its pipelines need beside it, and that the workers of its group load, too: ("vips",). A
    companion that the pool does not have is left out."""

    needs: Needs = Needs()
    """What the processor needs after it is loaded: files, late imports, the network. The sandbox of its workers allows nothing
    else. An instance whose settings decide about it may have a property."""

    load_timeout: float = 0.0
    """Seconds that its load may take in a worker, in addition to the pool's `load_timeout`: for a plugin that loads models."""

    settings: msgspec.Struct | None = None
    """The parameters of this instance: a frozen msgspec struct whose class a worker can import, or None. Workers create no
    instance of the plugin; `Processor.open` gets an equal struct as `worker.settings`. An instance that is given to a pool must
    have no other state."""

    def check(self, operations: Sequence[Operation]) -> None:
        """Refuse operations that cannot follow each other, before a task starts. The pool may skip the call for operations that
        are equal to checked ones.

        Args:
            operations: consecutive operations of this plugin, in the order of the pipeline; the source may be of any kind.

        Raises:
            InvalidTask: the operations cannot be combined. The text names the operation and the reason.
        """

    def probe(self, data: memoryview) -> Header | None:  # noqa: ARG002 (the signature is the contract)
        """Read a header from a source's first bytes, in the server: pure Python, bounded, no native decoder.

        Args:
            data: up to `probe_nbytes` bytes from the start of the source, read-only.

        Returns:
            The header, or None if the source has no format of this plugin. Must not raise.
        """
        return None

    def refuse(self, header: Header, operations: Sequence[Operation], nbytes: int) -> None:
        """Refuse a source by its header, in the server, before a byte of it is copied: pure Python, a few microseconds.

        The processor must check the same limits, because a header proves nothing, and because a source without a readable
        header, or the output of another plugin, is not refused here.

        Args:
            header: the header of the source, as `probe` returned it.
            operations: the first operations of the pipeline, all of this plugin. They passed `check`.
            nbytes: length of the source in bytes.

        Raises:
            TaskFailed: the source is refused. It is the outcome of the task, as if the processor had raised it.
        """

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:  # noqa: ARG002
        """Estimate memory and time of operations, in the server: pure Python, a few microseconds.

        The pool runs as many tasks at once as their estimated memory allows, and refuses a task whose estimate does not fit
        into its `memory_limit`. A worker that uses far more memory than estimated is stopped. So an estimate should be slightly
        too high rather than too low.

        Args:
            header: the source's header; for samples, (height, width, bands) with the media type "". If the source is the output
                of another plugin, the header that its `source_after` predicts. None: it is not known.
            operations: consecutive operations of this plugin that passed `check`.
            nbytes: length of the source in bytes; 0 if it is empty or not known.

        Returns:
            The estimate, or None if there is none; the pool then uses a default. Must not raise.
        """
        return None

    def estimate_sources(self, sources: Sequence[SourceHeader], operations: Sequence[Operation]) -> Estimate | None:
        """Estimate memory and time of operations of a task with attachments. Override it if they count.

        Args:
            sources: the header and the length of every source. The first one is what `estimate` gets; that of an attachment is
                `sources[attachment.index]`.
            operations: as for `estimate`. They may be of any number, and need not have the attachments.

        Returns:
            The estimate, as of `estimate`. By default it is that of the first source. Must not raise.
        """
        return self.estimate(sources[0].header, operations, sources[0].nbytes)

    def source_after(self, source: SourceHeader, operations: Sequence[Operation]) -> SourceHeader:  # noqa: ARG002
        """Predict the output of operations, for the estimate of the plugin that follows in the pipeline: pure Python, a few
        microseconds.

        Args:
            source: header and length of the source, as for `estimate`.
            operations: as for `estimate`.

        Returns:
            Header and length of the output; for samples, the media type is "". By default they are not known: None and 0. Must
            not raise.
        """
        return SourceHeader(None, 0)

    def shared_bytes(self, header: Header | None) -> int:  # noqa: ARG002
        """Estimate the private memory that the processor's `run_many` takes for what its pipelines share, in bytes.

        It is added to the largest estimate of the pipelines. Must not raise.
        """
        return 0


def describe(operation: Operation) -> str:
    """Returns the operation as Python source, for messages."""
    values = ", ".join(f"{field}={getattr(operation, field)!r}" for field in operation.__struct_fields__)
    return f"{type(operation).__name__}({values})"


def decoder_for(operations: tuple[type[Operation], ...]) -> msgspec.msgpack.Decoder[list[Operation]]:
    """Returns a decoder that accepts only these types of operations."""
    union: Any = operations[0]
    for operation in operations[1:]:
        union |= operation
    return msgspec.msgpack.Decoder(GenericAlias(list, (union,)), dec_hook=_from_index)


def tag_of(operation: type[Operation]) -> str:
    """Returns the tag of an operation's type in messages."""
    config: Any = operation.__struct_config__
    return str(config.tag)


def _wrap(type_: Any, value: Any) -> Any:
    return Attachment(value) if type_ is Attachment and not isinstance(value, Attachment) else value


def _from_index(type_: Any, value: Any) -> Any:
    return Attachment.at(value) if type_ is Attachment and isinstance(value, int) else value


@cache  # because resolving annotations takes ten times as long as a check
def _fields(operation: type[Operation]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(operation))


def _choices(type_: Any) -> str:
    """Returns the allowed values of a `Literal`, because msgspec's error names only the wrong value."""
    if get_origin(type_) is not Literal:
        return ""
    return f"; one of {', '.join(map(repr, get_args(type_)))}"
