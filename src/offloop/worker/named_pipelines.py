"""Named pipelines of one task, and which of them a processor runs together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ..wire.messages import Run, Stage

__all__ = ["NamedPipeline", "group_by_processor", "named_pipelines"]


class NamedPipeline(NamedTuple):
    """One pipeline of a task, as a part of the stages of its `Run`."""

    name: str
    first: int  # index of its first stage
    end: int  # index after its last stage


class _Processors(Protocol):
    def can_share(self, plugin: str) -> bool: ...


def named_pipelines(run: Run) -> Iterator[NamedPipeline]:
    """Yields the pipelines of a task in their order."""
    first = 0
    for name, count in run.pipelines.items():
        yield NamedPipeline(name, first, first + count)
        first += count


def group_by_processor(
    pipelines: Sequence[NamedPipeline], stages: Sequence[Stage], processors: _Processors
) -> list[list[NamedPipeline]]:
    """Returns the pipelines in groups: all of one stage of the same plugin, if its processor can share work between them."""
    shared: dict[str, list[NamedPipeline]] = {}
    groups: list[list[NamedPipeline]] = []
    for pipeline in pipelines:
        plugin = stages[pipeline.first].plugin
        has_one_stage = pipeline.end - pipeline.first == 1
        if has_one_stage and plugin in shared:
            shared[plugin].append(pipeline)
            continue
        groups.append([pipeline])
        if has_one_stage and processors.can_share(plugin):
            shared[plugin] = groups[-1]
    return groups
