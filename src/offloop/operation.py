"""What a task consists of: operations, and the plugins that bring them.

This is the light half of a plugin, imported by the server. It says what can be asked for and checks that each request makes
sense, but it cannot carry anything out: that is the processor (`offloop.processor`), which only workers import.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, Literal, get_args, get_origin

import msgspec

from .errors import InvalidTask

__all__ = ["Estimate", "Header", "Operation", "Plugin"]


class Operation(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """Typed, frozen parameters of one step. Subclass it, annotate the fields, and every instance is checked when it is made.

    Types and `msgspec.Meta` constraints are both enforced, values are converted where that loses nothing (a list to a
    tuple), and what does not fit raises `InvalidTask` naming the operation, the field and the value. A check that spans
    fields goes into `check`.
    """

    def __post_init__(self) -> None:
        """Convert and check every field.

        Raises:
            InvalidTask: a value has the wrong type or is out of range; the operation does not come into being.
        """
        for name, type_ in _fields(type(self)):
            value = getattr(self, name)
            try:
                converted = msgspec.convert(value, type_)
            except msgspec.ValidationError as error:
                raise InvalidTask(f"{type(self).__name__}({name}={value!r}): {error}{_choices(type_)}") from None
            if converted is not value:
                msgspec.structs.force_setattr(self, name, converted)
        self.check()

    def check(self) -> None:
        """Override to refuse combinations of fields; raise `InvalidTask`."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's first bytes declare. Nobody has decoded anything yet, so none of it is proven."""

    media_type: str  # "image/jpeg"
    width: int  # pixels, before any orientation tag is applied
    height: int  # pixels
    bands: int | None = None  # channels, where the header tells
    orientation: int | None = None  # EXIF orientation 1 to 8, where the header tells
    bits: int | None = None  # of one sample, where the header tells
    pages: int | None = None  # frames of an animation, pages of a document, where the header tells
    progressive: bool | None = None  # coded in several passes over the whole picture (progressive JPEG, interlaced PNG)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types, those of a plugin's subclass too."""
        return msgspec.to_builtins(self)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What operations are likely to take in a worker. The pool corrects it by what tasks of the same kind really took."""

    peak_bytes: int  # private memory at its highest, beyond what an idle worker with this plugin has; result memory not counted
    work_s: float  # seconds of one CPU of an ordinary machine
    output_bytes: int = 0  # of result memory


class Plugin:
    """The base of a plugin's light half. An entry point in the group `offloop.processors` names a subclass or an instance."""

    name: ClassVar[str]
    """A short word, unique in a pool: "vips"."""

    operations: ClassVar[tuple[type[Operation], ...]]
    """Every operation that the processor understands."""

    processor: ClassVar[str]
    """The processor as "module:Class". It stays text here: only a worker imports it."""

    probe_nbytes: ClassVar[int] = 256 * 1024
    """How many of a source's first bytes `probe` wants to see."""

    quick: ClassVar[bool] = False
    """Whether `probe` and `estimate` together take well under a millisecond, whatever the bytes: then both are called on the
    event loop itself, which saves each task a turn through a thread. A promise that wants a test with hostile sources."""

    settings: msgspec.Struct | None = None
    """The parameters of this instance: a frozen msgspec struct whose class a worker can import, or None. Workers make no
    instance of the plugin; its processor finds an equal struct as `worker.settings` in `open`. An instance that is given to a
    pool must have no other state."""

    def check(self, operations: Sequence[Operation]) -> None:
        """Refuse operations that cannot follow each other, before anything is started. Not always asked again for equal ones.

        Args:
            operations: consecutive operations of this plugin, in the order of the pipeline; the source may be of any kind.

        Raises:
            InvalidTask: naming the operation and the reason.
        """

    def probe(self, data: memoryview) -> Header | None:  # noqa: ARG002 (the signature is the contract)
        """Read a header from a source's first bytes, in the server: pure Python, bounded, no native decoder.

        Args:
            data: up to `probe_nbytes` bytes from the start of the source, read-only.

        Returns:
            What the header declares, or None if this is no format of this plugin. Must not raise.
        """
        return None

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:  # noqa: ARG002
        """Say what operations are likely to take, in the server: pure Python, a few microseconds.

        Memory decides how many tasks run at once, and an estimate that does not fit into the pool's `memory_limit` refuses the
        task; so it should rather be a little too high. A worker that takes far more than was estimated is stopped.

        Args:
            header: what the source declares; of samples, (height, width, bands) with the media type "". None: `probe` returned
                None, or the source is what another plugin's operations made.
            operations: consecutive operations of this plugin, as they passed `check`.
            nbytes: length of the source; 0 where it is empty, or is what another plugin's operations made.

        Returns:
            None where nothing can be said: the pool then takes a default. Must not raise.
        """
        return None


def describe(operation: Operation) -> str:
    """The operation as its author would write it, for messages."""
    values = ", ".join(f"{field}={getattr(operation, field)!r}" for field in operation.__struct_fields__)
    return f"{type(operation).__name__}({values})"


def tag_of(operation: type[Operation]) -> str:
    """The name under which an operation travels."""
    config: Any = operation.__struct_config__
    return str(config.tag)


@cache  # resolving annotations costs ten times what a check costs
def _fields(operation: type[Operation]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(operation))


def _choices(type_: Any) -> str:
    """msgspec names the wrong word only; a person wants to read the right ones."""
    if get_origin(type_) is not Literal:
        return ""
    return f"; one of {', '.join(map(repr, get_args(type_)))}"
