"""Runs a processor in this process, without a pool, for the unit tests of a plugin.

`InlineTask` implements the whole contract of `offloop.processor.Task`, partly with classes of the worker. The
contract tests run on it and on the worker's task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ..operation import Operation
from ..processor import Payload, Processor
from ..worker.cancellation import CancellableTask
from ..worker.result_checks import check_memory, check_payload, checked_info
from ..worker.task import GrowingOutput

__all__ = ["InlineTask", "InlineWorker", "run_inline"]


class InlineTask(CancellableTask):
    """A task without a pool, whose result memory is this process's. `cancel()` cancels it as a deadline would."""

    def __init__(self, threads: int = 1, sources: Sequence[Payload] = (), labels: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.threads = threads
        self.labels: Mapping[str, str] = labels or {}
        self.sources = sources
        self.is_last_stage = True
        self.wants_preview = True
        self.info: dict[str, Any] = {}  # values that `add_info` has added
        self.fraction = 0.0  # last reported progress, from 0 to 1
        self.previews: list[Payload] = []  # previews that were handed over
        self.emitted: list[tuple[str | None, Payload]] = []  # names and payloads of the outputs that were handed over

    def allocate(self, nbytes: int) -> memoryview:
        self.checkpoint()
        return memoryview(bytearray(nbytes))

    def output(self, expected_nbytes: int = 0) -> GrowingOutput:
        return GrowingOutput(self.allocate, expected_nbytes)

    def emit(self, payload: Payload, name: str | None = None) -> bool:
        self.checkpoint()
        self.emitted.append((name, replace(payload, info={**self.info, **payload.info})))
        return True

    def preview(self, payload: Payload, pipeline: int | None = None) -> bool:  # noqa: ARG002 (the signature is the contract)
        self.checkpoint()
        self.previews.append(payload)
        return True

    def add_info(self, info: Mapping[str, Any]) -> None:
        self.info.update(info)

    def progress(self, fraction: float) -> None:
        self.fraction = fraction


class InlineWorker:
    """A worker without a pool, as an argument of `Processor.open`."""

    slot = 0

    def __init__(self, settings: object) -> None:
        self.settings = settings

    def retire(self) -> None:
        pass


def run_inline(
    processor: Processor,
    payload: Payload,
    operations: Sequence[Operation],
    *,
    settings: object = None,
    attachments: Sequence[Payload] = (),
) -> Payload:
    """Open a processor, and run operations on a payload in this process. Returns the result.

    Args:
        processor: a processor that was not opened before.
        payload: the first source.
        operations: operations of its plugin. Those with attachments have `Attachment.at(1)` and so on.
        settings: the settings of its plugin.
        attachments: the further sources, from index 1 on.

    Raises:
        PluginError: a worker would refuse the result, because it is not a payload, its memory does not match its shape and
            dtype, or its info cannot be sent.
    """
    processor.open(InlineWorker(settings))
    task = InlineTask(sources=(payload, *attachments))
    result = processor.run(payload, operations, task)
    plugin = type(processor).__name__
    result = check_payload(plugin, result)
    check_memory(plugin, result)
    return replace(result, info=checked_info(plugin, result, task.info))
