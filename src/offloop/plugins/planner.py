"""From a pipeline to what is sent of it, once: servers run the same few pipelines again and again.

A pipeline is known again by its operations' types and by their encoding, which says all that a worker will ever hear of them.
Pipelines with anything in them that can be changed are planned anew each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ..operation import Operation
from ..wire.messages import Stage
from .estimator import Estimator
from .registry import Registry

__all__ = ["Plan", "Planner"]

_MOST, _MOST_NBYTES = 256, 4096  # pipelines that are remembered, and how long each may be

_Key = tuple[type[Operation] | bytes, ...]


class Plan(NamedTuple):
    """What a pipeline means to a pool."""

    stages: list[Stage]  # shared by all its tasks: nobody changes it
    estimator: Estimator | None  # None: none of its plugins ever estimates


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
        if isinstance(pipeline, list):
            operations = pipeline
        elif isinstance(pipeline, Operation):
            return Plan(self._registry.stages(pipeline), None)  # which says what is wrong
        else:
            operations = list(pipeline)
        try:
            encoded = self._encoder.encode(operations)
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
            return self._made(operations)  # as before
        key: _Key = (*map(type, operations), encoded)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._made(operations)
            if len(encoded) <= _MOST_NBYTES and _is_fixed(operations):
                self._remember(key, plan)
        return plan

    def _made(self, operations: list[Operation]) -> Plan:
        return Plan(self._registry.stages(operations), self._registry.find_estimator(operations))

    def _remember(self, key: _Key, plan: Plan) -> None:
        self._plans[key] = plan
        if len(self._plans) > _MOST:
            del self._plans[next(iter(self._plans))]


def _is_fixed(operations: Iterable[Operation]) -> bool:
    """Whether nobody can change an operation later: its forecaster would then speak of another one than was encoded."""
    try:
        hash(tuple(operations))
    except TypeError:
        return False  # there is a list, a dict or the like in it
    return True
