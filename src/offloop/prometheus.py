"""Prometheus collector for pools. It reads `Pool.statistics()` at each scrape, so tasks have no extra cost.

    REGISTRY.register(PoolCollector(pool))

The metrics are those of `offloop.metrics.metric_table`. Requires prometheus-client, which the extra `offloop[prometheus]`
installs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, cast

from .errors import PoolClosed
from .histogram import Histogram
from .metrics.metric_table import BOUNDS, INFOS, METRICS, Info, Metric, capped
from .metrics.pipeline_times import PipelineTimes
from .pool import Pool
from .statistics import Statistics

try:
    from prometheus_client import core
except ImportError as missing:
    raise ImportError('offloop.prometheus needs prometheus-client: pip install "offloop[prometheus]"') from missing

__all__ = ["PoolCollector"]

_Family: TypeAlias = core.CounterMetricFamily | core.GaugeMetricFamily | core.HistogramMetricFamily

_FAMILIES: dict[str, type[_Family]] = {
    "counter": core.CounterMetricFamily,
    "gauge": core.GaugeMetricFamily,
    "histogram": core.HistogramMetricFamily,
}


class PoolCollector:
    """A collector for a registry of prometheus-client: `REGISTRY.register(PoolCollector(pool))`.

    A scrape may run in any thread, and never fails because of the pool: a pool that was not entered yet has no samples, and a
    closed pool has its last numbers. Unregister the collector if the process outlives the pool.

    Args:
        pools: a pool; or several by name, `{"images": images, "models": models}`: each sample then has the label `pool`. A
            registry accepts only one collector of a namespace, so several pools need one collector.
        namespace: prefix of all metric names.
        max_tenants: maximum number of tenants with a sample of their own: those with most waiting tasks. The others are added
            up as "(others)", so that the number of samples is bounded.
        max_pipelines: maximum number of pipelines with a histogram of their run times, `pipeline_run_seconds{pipeline=}`: the
            first ones. The others are counted together as "(others)". 0: no such histograms. Otherwise the pool has an
            observer, which costs the loop a few microseconds for each task.

    Raises:
        ValueError: `max_tenants` or `max_pipelines` is negative, or the namespace cannot begin a metric name.
    """

    def __init__(
        self,
        pools: Pool | Mapping[str, Pool],
        *,
        namespace: str = "offloop",
        max_tenants: int = 20,
        max_pipelines: int = 0,
    ) -> None:
        for name, value in (("max_tenants", max_tenants), ("max_pipelines", max_pipelines)):
            if value < 0:
                raise ValueError(f"{name}={value!r}: must be at least 0")
        if not (namespace.isascii() and namespace.isidentifier()):
            raise ValueError(
                f"namespace={namespace!r}: must be ASCII letters, digits and underscores, and not begin with a digit"
            )
        self._named = not isinstance(pools, Pool)
        self._pools = {"": pools} if isinstance(pools, Pool) else {_text(name): pool for name, pool in pools.items()}
        self._namespace = namespace
        self._max_tenants = max_tenants
        self._times: dict[str, PipelineTimes] = {}
        if max_pipelines:
            for name, pool in self._pools.items():
                self._times[name] = PipelineTimes(max_pipelines)
                pool.add_observer(self._times[name])

    def describe(self) -> Iterable[core.Metric]:
        """The metrics without samples, so that a registry can refuse duplicate names."""
        families = [*map(self._family, METRICS), *map(self._info_family, INFOS)]
        return [*families, self._pipeline_family()] if self._times else families

    def collect(self) -> Iterator[core.Metric]:
        """The metrics with their present values."""
        numbers = {name: now for name, pool in self._pools.items() if (now := _try_statistics(pool)) is not None}
        for metric in METRICS:
            family = self._family(metric)
            for name, now in numbers.items():
                self._add(family, metric, self._labels_of(name), now)
            yield family
        for info in INFOS:
            info_family = self._info_family(info)
            for name, now in numbers.items():
                for values in info.read(now):
                    info_family.add_metric(self._labels_of(name), dict(zip(info.labels, values, strict=True)))
            yield info_family
        if self._times:
            yield self._pipelines()

    def _labels_of(self, pool: str) -> list[str]:
        return [pool] if self._named else []

    def _family(self, metric: Metric) -> _Family:
        labels = ["pool"] * self._named + ([metric.label] if metric.label else [])
        return _FAMILIES[metric.kind](f"{self._namespace}_{metric.name}", metric.help, labels=labels, unit=metric.unit)

    def _info_family(self, info: Info) -> core.InfoMetricFamily:
        return core.InfoMetricFamily(f"{self._namespace}_{info.name}", info.help, labels=["pool"] * self._named)

    def _pipeline_family(self) -> core.HistogramMetricFamily:
        name, labels = f"{self._namespace}_pipeline_run_seconds", ["pool"] * self._named + ["pipeline"]
        return core.HistogramMetricFamily(name, "How long a worker had a task, by pipeline.", labels=labels, unit="seconds")

    def _pipelines(self) -> core.HistogramMetricFamily:
        family = self._pipeline_family()
        for name, times in self._times.items():
            for pipeline, histogram in times.snapshot().items():
                _add_histogram(family, [*self._labels_of(name), _text(pipeline)], histogram)
        return family

    def _add(self, family: _Family, metric: Metric, labels: list[str], now: Statistics) -> None:
        value = metric.read(now)
        if isinstance(family, core.HistogramMetricFamily):
            _add_histogram(family, labels, cast("Histogram", value))
        elif metric.label is None:
            family.add_metric(labels, cast("float", value))
        else:
            values = cast("Mapping[str, float]", value)
            for key, number in (capped(values, self._max_tenants) if metric.label == "tenant" else values).items():
                family.add_metric([*labels, _text(key)], number)


def _add_histogram(family: core.HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    buckets = [*((str(bound), histogram.below(bound)) for bound in BOUNDS), ("+Inf", histogram.count)]
    family.add_metric(labels, buckets, histogram.sum_s)


def _try_statistics(pool: Pool) -> Statistics | None:
    try:
        return pool.statistics()
    except PoolClosed:
        return None  # the pool was not entered yet


def _text(value: str) -> str:
    """The text with lone surrogates escaped, because one in a tenant's name would fail every scrape."""
    return value.encode(errors="backslashreplace").decode()
