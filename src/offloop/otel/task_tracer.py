"""Makes the spans of a task when it has ended, with the times of the pool's events."""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from typing import TypeAlias

from opentelemetry import context, trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from ..pool_events import PoolEvent, PoolObserver, TaskEnded, TaskRetried

__all__ = ["TaskTracer"]

_MAX_LINKED_TASKS = 10_000  # a bound, because a task whose callers all leave at once is never submitted

_Value: TypeAlias = str | int | tuple[str, ...]


class TaskTracer(PoolObserver):
    """Observer of a pool that makes spans.

    The context of the caller is kept from the submission to the end of the task, about one object for each unsettled task.
    """

    needs_worker_moves = False

    def __init__(self, tracer: Tracer, common: Mapping[str, str]) -> None:
        self._tracer = tracer
        self._common = common
        self._parents: dict[int, context.Context] = {}
        self._links: dict[int, list[trace.Link]] = {}
        self._retries: dict[int, list[TaskRetried]] = {}

    def task_submitted(self, task_id: int) -> None:
        """Keep the context of the caller."""
        self._parents[task_id] = context.get_current()

    def task_shared(self, task_id: int) -> None:
        """Keep a link to the span of a caller that shares the task, which may not be submitted yet."""
        caller = trace.get_current_span().get_span_context()
        if caller.is_valid:
            self._links.setdefault(task_id, []).append(trace.Link(caller, {"offloop.coalesced": True}))
            if len(self._links) > _MAX_LINKED_TASKS:
                del self._links[next(iter(self._links))]

    def event_published(self, event: PoolEvent) -> None:
        """Make the spans of a task that has ended."""
        if isinstance(event, TaskRetried) and event.task_id in self._parents:
            self._retries.setdefault(event.task_id, []).append(event)
        elif isinstance(event, TaskEnded):
            parent = self._parents.pop(event.task_id, None)
            links = self._links.pop(event.task_id, [])
            retries = self._retries.pop(event.task_id, [])
            if parent is not None:  # None: it was submitted before the pool was instrumented
                _TaskSpans(self._tracer, self._common, event, retries).make(parent, links)


class _TaskSpans:
    """The spans of one task."""

    def __init__(self, tracer: Tracer, common: Mapping[str, str], end: TaskEnded, retries: list[TaskRetried]) -> None:
        self._tracer = tracer
        self._common = common
        self._end = end
        self._retries = retries
        self._ended_ns = time_ns()

    def make(self, parent: context.Context, links: list[trace.Link]) -> None:
        end = self._end
        span = self._tracer.start_span(
            "offloop.run",
            context=parent,
            attributes={**self._common, **_attributes(end)},
            links=links,
            start_time=self._ns(end.submitted_at),
        )
        if span.is_recording():  # the children have its sampling decision
            self._make_children(trace.set_span_in_context(span, parent))
            self._set_error(span)
        span.end(self._ended_ns)

    def _make_children(self, parent: context.Context) -> None:
        end = self._end
        runs = [retry.dispatched_at for retry in self._retries]
        first_run = runs[0] if runs else end.dispatched_at
        self._make_child("offloop.stage", parent, end.submitted_at, end.ready_at)
        if end.ready_at is not None:
            self._make_child("offloop.wait", parent, end.ready_at, first_run)
        for retry in self._retries:
            child = self._start_run(parent, retry.dispatched_at)
            child.set_attribute("error.type", "WorkerDied")
            child.set_status(Status(StatusCode.ERROR, "the worker died, and the task was given to another"))
            child.end(self._ns(retry.at))
        if end.dispatched_at is not None and (not runs or end.dispatched_at > runs[-1]):
            child = self._start_run(parent, end.dispatched_at)
            if end.slot is not None:
                child.set_attribute("offloop.worker.slot", end.slot)
            self._set_error(child)
            child.end(self._ended_ns)

    def _make_child(self, name: str, parent: context.Context, started_at: float, ended_at: float | None) -> None:
        """Make a child span; without a time at which it ended, it ended with the task."""
        child = self._tracer.start_span(name, context=parent, attributes=self._common, start_time=self._ns(started_at))
        child.end(self._ended_ns if ended_at is None else self._ns(ended_at))

    def _start_run(self, parent: context.Context, started_at: float) -> Span:
        attributes = {**self._common, "offloop.group": self._end.group}
        return self._tracer.start_span(
            "offloop.execute", context=parent, attributes=attributes, start_time=self._ns(started_at)
        )

    def _set_error(self, span: Span) -> None:
        end = self._end
        if end.error is not None:
            span.set_attribute("error.type", end.error)
            span.set_status(Status(StatusCode.ERROR, end.message))

    def _ns(self, at: float) -> int:
        """The time in nanoseconds since the epoch. `at` is on the clock of the events."""
        return self._ended_ns - round((self._end.at - at) * 1e9)


def _attributes(end: TaskEnded) -> dict[str, _Value]:
    attributes: dict[str, _Value] = {
        "offloop.task.id": end.task_id,
        "offloop.outcome": end.outcome,
        "offloop.group": end.group,
        "offloop.operations": end.operations,
        "offloop.plugins": tuple(dict.fromkeys(operation.partition(".")[0] for operation in end.operations)),
        "offloop.source.bytes": end.source_bytes,
        "offloop.estimate.bytes": end.estimate_bytes,
        "offloop.runs": end.runs,
    }
    if end.tenant is not None:
        attributes["offloop.tenant"] = end.tenant.encode(errors="backslashreplace").decode()
    for name, value in end.labels.items():
        attributes[f"offloop.label.{name}"] = value.encode(errors="backslashreplace").decode()
    return attributes
