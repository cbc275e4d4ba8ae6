"""From a pipeline to what is sent of it, once: servers run the same few pipelines again and again.

A pipeline is known again by its operations' types and by their encoding, which says all that a worker will ever hear of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ..operation import Operation
from ..wire.messages import Stage
from .forecast import Forecaster
from .registry import Registry

__all__ = ["Plan", "Planner"]

_MOST, _MOST_NBYTES = 256, 4096  # pipelines that are remembered, and how long each may be

_Key = tuple[type[Operation] | bytes, ...]


class Plan(NamedTuple):
    """What a pipeline means to a pool."""

    stages: list[Stage]  # shared by all its tasks: nobody changes it
    forecaster: Forecaster | None  # None: none of its plugins ever estimates


class Planner:
    """Plans that were made, the oldest of which are forgotten."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._plans: dict[_Key, Plan] = {}
        self._encoder = msgspec.msgpack.Encoder()

    def plan(self, pipeline: Iterable[Operation]) -> Plan:
        """The plan for a pipeline.

        Raises:
            InvalidTask: it makes no sense to the registry.
        """
        if isinstance(pipeline, Operation):
            return Plan(self._registry.stages(pipeline), None)  # which says what is wrong
        operations = pipeline if isinstance(pipeline, list | tuple) else list(pipeline)
        try:
            encoded = self._encoder.encode(operations)
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
            return self._made(operations)  # as before
        key = (*map(type, operations), encoded)
        return self._plans.get(key) or self._remembered(key, self._made(operations), len(encoded))

    def _made(self, operations: list[Operation] | tuple[Operation, ...]) -> Plan:
        return Plan(self._registry.stages(operations), self._registry.maybe_forecaster(operations))

    def _remembered(self, key: _Key, plan: Plan, nbytes: int) -> Plan:
        if nbytes <= _MOST_NBYTES:
            self._plans[key] = plan
            if len(self._plans) > _MOST:
                del self._plans[next(iter(self._plans))]
        return plan
