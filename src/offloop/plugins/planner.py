"""Turns pipelines into plans, and caches the plans, because servers run the same few pipelines repeatedly.

The cache's key consists of the operations' types and their encoding, which is all that a worker gets. Pipelines with a mutable
value, or with data of one task, are not cached. Attachments are encoded as indices, so tasks that differ only in their sources
share a plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import InvalidTask
from ..operation import Estimate, Operation
from ..wire.messages import Stage
from .estimator import Estimator, combine
from .grouping import PluginGroups, find_group
from .registry import Registry, error_of_single_operation

__all__ = ["Plan", "Planner"]

_MAX_PLANS = 256  # maximum number of cached plans
_MAX_PREVIEWS = 8  # maximum number of previews of a pipeline
_MAX_KEY_NBYTES = 4096  # maximum length of a cached pipeline's encoding in bytes

_Key = tuple[type[Operation] | bytes, ...]


class Plan(NamedTuple):
    """A checked pipeline: its encoded stages and its estimator."""

    stages: list[Stage]  # encoded stages; shared by all tasks of the pipeline, so never changed
    estimator: Estimator | None  # None: none of its plugins overrides `estimate`
    group: str  # name of the worker group that runs it
    estimate: Estimate | None = None  # estimate for every source, if it does not depend on the source
    kind: tuple[tuple[str, str], ...] | None = None  # plugins and what costs depend on; None: the stages
    pipelines: Mapping[str, int] = {}  # numbers of stages of named pipelines; empty: it is one pipeline
    previews: int = 0  # maximum number of previews that its operations hand over
    attachments: tuple[Any, ...] = ()  # sources of the attachments of one task, in the order of their indices, from 1


class Planner:
    """Makes plans, and caches the last ones."""

    def __init__(self, registry: Registry, groups: PluginGroups) -> None:
        self._registry = registry
        self._groups = groups
        self._plans: dict[_Key, Plan] = {}
        self._attachments = registry.attachments

    def plan(self, pipeline: Iterable[Operation]) -> Plan:
        """Returns the plan for a pipeline.

        Raises:
            InvalidTask: the registry refuses the pipeline, see `Registry.stages`; or no worker group has all of its plugins.
        """
        try:
            plan = self._plan(pipeline)
        finally:
            attachments = self._attachments.take() if self._attachments.sources else ()
        return plan._replace(attachments=attachments) if attachments else plan

    def _plan(self, pipeline: Iterable[Operation]) -> Plan:
        """Returns the plan for a pipeline. Its attachments are numbered after those of the last calls."""
        if isinstance(pipeline, list):
            operations = pipeline
        elif isinstance(pipeline, Operation):
            raise error_of_single_operation(pipeline)
        else:
            operations = list(pipeline)
        try:
            encoded = self._attachments.encoder.encode(operations)
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
            return self._new_plan(operations)  # raises an error that names the operation
        key: _Key = (*map(type, operations), encoded)
        plan = self._plans.get(key)
        if plan is None:
            if self._attachments.sources:
                operations = self._attachments.numbered(operations)  # because a cached plan must not keep the sources
            plan = self._new_plan(operations)
            if plan.kind is None and len(encoded) <= _MAX_KEY_NBYTES and _is_fixed(operations):
                self._remember(key, plan)
        return plan

    def stages_of(self, plan: Plan, operations: list[Operation]) -> list[Stage]:
        """Returns the stages of a plan of one stage with other data in its operations, without planning it again.

        Args:
            plan: the plan of operations of the same types, estimate and kind.
            operations: the operations. They have no attachments.

        Raises:
            InvalidTask: they cannot be sent, or are too large.
        """
        return [self._registry.encoded_stage(plan.stages[0].plugin, operations)]

    def plan_many(self, pipelines: Mapping[str, Iterable[Operation]]) -> Plan:
        """Returns the plan of a task that runs several named pipelines on one source, in one worker.

        Raises:
            InvalidTask: a pipeline is refused, as by `plan`; or no worker group has the plugins of all of them.
        """
        try:
            plans = [self._plan(pipeline) for pipeline in pipelines.values()]
        finally:
            attachments = self._attachments.take()
        stages = [stage for plan in plans for stage in plan.stages]
        estimators = [plan.estimator for plan in plans if plan.estimator is not None]
        estimator = combine(estimators) if len(estimators) == len(plans) else None
        group = find_group(self._groups, [stage.plugin for stage in stages])
        counts = {name: len(plan.stages) for name, plan in zip(pipelines, plans, strict=True)}
        previews = sum(plan.previews for plan in plans)
        return Plan(stages, estimator, group, pipelines=counts, previews=previews, attachments=attachments)

    def _new_plan(self, operations: list[Operation]) -> Plan:
        stages = self._registry.stages(operations)
        group = find_group(self._groups, [stage.plugin for stage in stages])
        previews = sum(operation.previews for operation in operations)
        if previews > _MAX_PREVIEWS:
            raise InvalidTask(f"the pipeline makes {previews} previews, and {_MAX_PREVIEWS} is the limit")
        plan = Plan(stages, self._registry.find_estimator(operations), group, previews=previews)
        if plan.estimator is not None and not plan.estimator.probe_nbytes and not self._attachments.sources:
            plan = plan._replace(estimator=None, estimate=plan.estimator.estimate_any())
        return plan._replace(kind=self._registry.find_kind(operations))

    def _remember(self, key: _Key, plan: Plan) -> None:
        self._plans[key] = plan
        if len(self._plans) > _MAX_PLANS:
            del self._plans[next(iter(self._plans))]


def _is_fixed(operations: Iterable[Operation]) -> bool:
    """Whether no operation can change later, because the estimator would then estimate other operations than were encoded."""
    try:
        hash(tuple(operations))
    except TypeError:
        return False  # a value is a list, a dict or another mutable type
    return True
