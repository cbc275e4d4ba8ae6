"""Decodes the operations of requests. Those of equal stages are kept, because clients run the same few pipelines repeatedly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import msgspec

from offloop import InvalidTask, Operation
from offloop.operation import Attachment
from offloop.plugins import Registry

from ..wire.messages import Stage

__all__ = ["OperationDecoder"]

_MAX_KEPT = 256  # stages whose operations are kept
_MAX_KEPT_NBYTES = 4096  # longest encoding of such a stage


class OperationDecoder:
    """Decodes with the light halves of a node's plugins."""

    def __init__(self, registry: Registry, node: str) -> None:
        """`node`: name of the node, for errors."""
        self._registry = registry
        self._node = node
        self._sources: Sequence[Any] = ()  # of the task whose stages are decoded
        self._decoders: dict[str, msgspec.msgpack.Decoder[list[Operation]]] = {}  # by name of the plugin
        self._kept: dict[tuple[str, bytes], list[Operation]] = {}

    def decode(self, stages: Sequence[Stage], sources: Sequence[Any]) -> list[Operation]:
        """The operations of a pipeline.

        Args:
            stages: its stages.
            sources: the sources of the task, of which attachments are numbers, from 1.

        Raises:
            InvalidTask: the node has no such plugin, or the operations cannot be read.
        """
        self._sources = sources
        try:
            return [operation for stage in stages for operation in self._decode(stage)]
        finally:
            self._sources = ()

    def _decode(self, stage: Stage) -> list[Operation]:
        key = (stage.plugin, bytes(stage.operations))
        operations = self._kept.get(key)
        if operations is not None:
            return operations
        try:
            operations = self._decoder_of(stage.plugin).decode(stage.operations)
        except (msgspec.DecodeError, TypeError) as error:
            raise InvalidTask(f"the operations of {stage.plugin!r} cannot be read: {error}") from None
        if len(self._sources) == 1 and len(key[1]) <= _MAX_KEPT_NBYTES:  # otherwise they refer to sources of this task
            self._kept[key] = operations
            if len(self._kept) > _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return operations

    def _decoder_of(self, plugin: str) -> msgspec.msgpack.Decoder[list[Operation]]:
        decoder = self._decoders.get(plugin)
        if decoder is None:
            registered = self._registry.plugins.get(plugin)
            if registered is None:
                raise InvalidTask(f"the node {self._node} has no plugin {plugin!r}")
            kinds: Any = list[Union[registered.plugin.operations]]  # pyright: ignore[reportInvalidTypeForm] # noqa: UP007
            decoder = self._decoders[plugin] = msgspec.msgpack.Decoder(kinds, dec_hook=self._attach)
        return decoder

    def _attach(self, type_: Any, value: Any) -> Any:
        if type_ is Attachment and isinstance(value, int) and 0 < value < len(self._sources):
            return Attachment(self._sources[value])
        raise TypeError(f"{value!r} is no attachment")
