"""Run times of tasks by their pipelines, for exporters. Counted by an observer of the pool, only if an exporter asks for it."""

from __future__ import annotations

from ..core.telemetry.histogram_recorder import Recorder
from ..histogram import Histogram
from ..pool_events import PoolEvent, PoolObserver, TaskEnded
from .metric_table import OTHERS

__all__ = ["PipelineTimes"]


class PipelineTimes(PoolObserver):
    """A histogram of seconds for each of the first pipelines, and one for all others together.

    A pipeline is the names of its operations: "vips.Resize vips.Webp". The first pipelines keep their histograms, because a
    counter must never go down. The time is that of the last worker of a task, because workers do not measure single operations.
    """

    needs_worker_moves = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._recorders: dict[str, Recorder] = {}

    def event_published(self, event: PoolEvent) -> None:
        """Count the end of a task that a worker had."""
        if not isinstance(event, TaskEnded) or event.dispatched_at is None:
            return
        name = " ".join(event.operations)
        if name not in self._recorders and len(self._recorders) >= self._limit:
            name = OTHERS
        recorder = self._recorders.get(name)
        if recorder is None:
            recorder = self._recorders[name] = Recorder()
        recorder.record(max(event.at - event.dispatched_at, 0.0))

    def snapshot(self) -> dict[str, Histogram]:
        """The histograms by pipeline. Any thread may call it."""
        recorders = self._recorders.copy()  # one step for other threads
        return {name: recorder.snapshot() for name, recorder in recorders.items()}
