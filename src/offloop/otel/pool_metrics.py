"""Instruments for all metrics of a pool, from the table that the Prometheus collector reads, too.

A Prometheus exporter of OpenTelemetry gives the metrics the names that `offloop.prometheus` gives them: "offloop.task_run" with
the unit "s" becomes "offloop_task_run_seconds".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import cast

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from .. import histogram
from ..errors import PoolClosed
from ..metrics.metric_table import BOUNDS, INFOS, METRICS, Info, Metric, capped
from ..pool import Pool
from ..pool_events import PoolEvent, PoolObserver, TaskEnded, TaskRetried
from ..statistics import Statistics

__all__ = ["PoolMetrics"]

_UNITS = {"seconds": "s", "bytes": "By", "": ""}
_MAX_AGE_S = 0.1  # of statistics, so that one collection reads them once

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class PoolMetrics(PoolObserver):
    """Observable instruments for the statistics; histograms of waiting and running times from the pool's events.

    OpenTelemetry has no observable histogram. So the ratios to estimates are two counters each: `.sum` and `.count`.
    """

    needs_worker_moves = False

    def __init__(self, meter: Meter, pool: Pool, common: Mapping[str, str], max_tenants: int) -> None:
        self._meter = meter
        self._pool: Pool | None = pool
        self._common = common
        self._max_tenants = max_tenants
        self._statistics: tuple[float, Statistics | None] = (-1.0, None)  # time of the last ones, and they
        self._first_runs: dict[int, float] = {}  # times of the first dispatch of retried tasks
        self._waits, self._runs = self._histogram("task_wait_seconds"), self._histogram("task_run_seconds")
        for metric in METRICS:
            self._create(metric)
        for info in INFOS:
            meter.create_observable_gauge(f"offloop.{info.name}_info", [self._info_callback(info)], description=info.help)

    def close(self) -> None:
        """Report no more values. The API has no way to remove the instruments."""
        self._pool = None

    def event_published(self, event: PoolEvent) -> None:
        """Record the times of a run that has ended."""
        if isinstance(event, TaskRetried):
            self._first_runs.setdefault(event.task_id, event.dispatched_at)
            self._runs.record(max(event.at - event.dispatched_at, 0.0), self._common)
        elif isinstance(event, TaskEnded):
            first_run = self._first_runs.pop(event.task_id, event.dispatched_at)
            if first_run is not None:
                self._waits.record(max(first_run - event.submitted_at, 0.0), self._common)
            if event.dispatched_at is not None and event.slot is not None:
                self._runs.record(max(event.at - event.dispatched_at, 0.0), self._common)

    def _histogram(self, name: str) -> Histogram:
        (metric,) = [metric for metric in METRICS if metric.name == name]
        return self._meter.create_histogram(
            _name(metric), _UNITS[metric.unit], metric.help, explicit_bucket_boundaries_advisory=BOUNDS
        )

    def _create(self, metric: Metric) -> None:
        name, unit, meter = _name(metric), _UNITS[metric.unit], self._meter
        if metric.kind == "counter":
            meter.create_observable_counter(name, [self._callback(metric)], unit, metric.help)
        elif metric.kind == "gauge":
            meter.create_observable_gauge(name, [self._callback(metric)], unit, metric.help)
        elif metric.unit != "seconds":
            for part, read in (("sum", _sum), ("count", _count)):
                callback = self._callback(metric, read)
                meter.create_observable_counter(f"{name}.{part}", [callback], unit, f"{metric.help} ({part})")

    def _callback(self, metric: Metric, part: Callable[[histogram.Histogram], float] | None = None) -> _Callback:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            now = self._read()
            if now is None:
                return []
            value = metric.read(now)
            if part is not None:
                return [Observation(part(cast("histogram.Histogram", value)), self._common)]
            if metric.label is None:
                return [Observation(cast("float", value), self._common)]
            values = cast("Mapping[str, float]", value)
            values = capped(values, self._max_tenants) if metric.label == "tenant" else values
            return [Observation(float(number), {**self._common, metric.label: _text(key)}) for key, number in values.items()]

        return observe

    def _info_callback(self, info: Info) -> _Callback:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            now = self._read()
            if now is None:
                return []
            return [
                Observation(1, {**self._common, **dict(zip(info.labels, values, strict=True))}) for values in info.read(now)
            ]

        return observe

    def _read(self) -> Statistics | None:
        """The statistics of the pool; None: it was not entered yet, or the instrumentation is closed."""
        pool = self._pool
        if pool is None:
            return None
        read_at, numbers = self._statistics
        now = monotonic()
        if not 0 <= now - read_at < _MAX_AGE_S:
            try:
                numbers = pool.statistics()
            except PoolClosed:
                return None
            self._statistics = (now, numbers)
        return numbers


def _name(metric: Metric) -> str:
    return f"offloop.{metric.name.removesuffix(metric.unit).removesuffix('_')}"


def _sum(values: histogram.Histogram) -> float:
    return values.sum_s


def _count(values: histogram.Histogram) -> float:
    return values.count


def _text(value: str) -> str:
    return value.encode(errors="backslashreplace").decode()
