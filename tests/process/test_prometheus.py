"""Prometheus metrics over HTTP, in the formats that it reads, equal to `pool.statistics()`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import anyio
import anyio.to_thread
import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as parse

from offloop import Pool, Statistics, TaskFailed, WorkerDied
from offloop.metrics.metric_table import METRICS
from offloop.prometheus import PoolCollector
from offloop.testing.faults import Echo, FaultsPlugin, HoldOn, Kill, Noop, Raise

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def registry_of(*collectors: PoolCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def families(collector: PoolCollector) -> dict[str, Metric]:
    """What Prometheus reads, by name."""
    return {family.name: family for family in parse(generate_latest(registry_of(collector)).decode())}


def samples(read: dict[str, Metric]) -> Samples:
    """Every number, under its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for family in read.values() for sample in family.samples
    }


def by_label(read: dict[str, Metric], name: str, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in read[name].samples}


def number(read: dict[str, Metric], name: str) -> float:
    (value,) = [sample.value for family in read.values() for sample in family.samples if sample.name == name]
    return value


def assert_same(read: dict[str, Metric], numbers: Statistics) -> None:
    """Refuse a scrape that says something else than the pool does."""
    assert number(read, "offloop_tasks_submitted_total") == numbers.submitted
    outcomes = {key: value for key, value in by_label(read, "offloop_tasks", "outcome").items() if value}
    assert outcomes == {key: getattr(numbers, key) for key in outcomes}
    assert sum(outcomes.values()) + numbers.waiting + numbers.running == numbers.submitted
    assert number(read, "offloop_tasks_waiting") == numbers.waiting
    assert number(read, "offloop_tasks_running") == numbers.running
    assert number(read, "offloop_worker_crashes_total") == numbers.worker_crashes
    assert number(read, "offloop_memory_limit_bytes") == numbers.memory_limit_bytes
    assert {key: n for key, n in by_label(read, "offloop_workers", "state").items() if n} == numbers.workers
    assert by_label(read, "offloop_leases", "holder") == numbers.leases
    states = by_label(read, "offloop_breaker_state", "state")
    assert states == {state: state == numbers.breaker for state in ("closed", "open", "half-open")}
    for name, told in [("offloop_task_wait_seconds", numbers.wait), ("offloop_task_run_seconds", numbers.run)]:
        assert number(read, f"{name}_count") == told.count
        assert number(read, f"{name}_sum") == told.sum_s
        buckets = [sample for sample in read[name].samples if sample.name == f"{name}_bucket"]
        assert [sample.value for sample in buckets] == [
            told.count if sample.labels["le"] == "+Inf" else told.below(float(sample.labels["le"])) for sample in buckets
        ]


@contextmanager
def served(registry: CollectorRegistry) -> Generator[str]:
    """The address of a server with that registry, in a thread of its own."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def fetched(url: str) -> dict[str, Metric]:
    with urlopen(url, timeout=10) as response:
        return {family.name: family for family in parse(response.read().decode())}


@pytest.mark.anyio
async def test_a_scrape_over_http_says_what_the_statistics_say(pool: Pool) -> None:
    for _ in range(20):
        await pool.run(b"", [Noop()])
    with pytest.raises(WorkerDied):
        await pool.run(b"", [Kill(signal.SIGKILL)])
    with pytest.raises(TaskFailed):
        await pool.run(b"", [Raise()])
    await until(lambda: pool.statistics().workers.get("idle") == 2)
    with served(registry_of(PoolCollector(pool))) as url:
        read = await anyio.to_thread.run_sync(fetched, url)
    assert_same(read, pool.statistics())
    assert by_label(read, "offloop_tasks", "outcome") == {
        "completed": 20,
        "failed": 1,
        "timed_out": 0,
        "cancelled": 0,
        "worker_died": 1,
        "refused": 0,
    }
    assert number(read, "offloop_task_run_seconds_count") == 22
    assert by_label(read, "offloop_task_errors", "code") == {"WorkerDied": 1, "exception": 1}
    (build,) = [dict(sample.labels) for sample in read["offloop_build_info"].samples]
    assert (build["version"], build["compiled"]) in {(version("offloop"), "true"), (version("offloop"), "false")}


@pytest.mark.anyio
async def test_run_times_are_counted_by_pipeline_if_they_are_asked_for(pool_of_one: Pool) -> None:
    assert "offloop_pipeline_run_seconds" not in families(PoolCollector(pool_of_one))
    collector = PoolCollector({"a": pool_of_one}, max_pipelines=2)
    for pipeline in ([Noop()], [Noop()], [Echo(), Noop()], [Echo()], [Noop()]):
        await pool_of_one.run(b"x", pipeline)
    counted = families(collector)["offloop_pipeline_run_seconds"].samples
    assert {sample.labels["pipeline"]: sample.value for sample in counted if sample.name.endswith("_count")} == {
        "faults.Noop": 3,
        "faults.Echo faults.Noop": 1,
        "(others)": 1,
    }
    assert {sample.labels["pool"] for sample in counted} == {"a"}


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.005)


@pytest.mark.anyio
async def test_counters_never_go_down_whatever_dies_and_however_often_they_are_read(pool: Pool) -> None:
    collector = PoolCollector(pool)
    scrapes: list[Samples] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            scrapes.append(samples({family.name: family for family in collector.collect() if family.type != "gauge"}))

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        for round_ in range(5):
            async with anyio.create_task_group() as tasks:
                for n in range(20):
                    tasks.start_soon(run_or_die, pool, Kill(signal.SIGKILL) if n == round_ else Noop(), f"tenant {n}")
    finally:
        over.set()
        scraping.join(10)
    scrapes.append(samples({family.name: family for family in collector.collect() if family.type != "gauge"}))
    assert len(scrapes) > 5
    for before, after in pairwise(scrapes):
        assert {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1) < value} == {}
    assert scrapes[-1]["offloop_tasks_total", frozenset({("outcome", "worker_died")})] == 5


async def run_or_die(pool: Pool, operation: Any, tenant: str) -> None:
    with suppress(WorkerDied):
        await pool.run(tenant.encode(), [operation], tenant=tenant)  # the same content thrice would be quarantined


@pytest.mark.anyio
async def test_the_strict_format_can_be_read_too_and_says_the_units(pool: Pool) -> None:
    await pool.run(b"", [Noop()])
    text = cast("Any", exposition).generate_latest(registry_of(PoolCollector(pool))).decode()  # the package gives it no types
    read: dict[str, Metric] = {family.name: family for family in cast("Any", parser).text_string_to_metric_families(text)}
    assert {name: family.unit for name, family in read.items() if family.unit} == {
        name: name.rpartition("_")[2] for name in read if name.endswith(("_seconds", "_bytes"))
    }
    assert read["offloop_task_run_seconds"].type == "histogram"
    assert_same(read, pool.statistics())


@pytest.mark.anyio
async def test_those_who_wait_are_counted_by_tenant_and_the_smallest_are_taken_together(pool: Pool, tmp_path: Path) -> None:
    waiting = {'a\n"b"': 3, "\ud800": 2, "c": 1, "d": 1}
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(pool.run, b"", [HoldOn(str(tmp_path / "go"))])
        await until(lambda: pool.statistics().running == 2)
        for tenant, count in waiting.items():
            for _ in range(count):
                tasks.start_soon(lambda tenant=tenant: pool.run(b"", [Noop()], tenant=tenant))
        await until(lambda: pool.statistics().waiting == 7)
        shown = by_label(families(PoolCollector(pool)), "offloop_tenant_tasks_waiting", "tenant")
        assert shown == {'a\n"b"': 3, "\\ud800": 2, "c": 1, "d": 1}
        shown = by_label(families(PoolCollector(pool, max_tenants=2)), "offloop_tenant_tasks_waiting", "tenant")
        assert shown == {'a\n"b"': 3, "\\ud800": 2, "(others)": 2}
        shown = by_label(families(PoolCollector(pool, max_tenants=0)), "offloop_tenant_tasks_waiting", "tenant")
        assert shown == {"(others)": 7}
        (tmp_path / "go").touch()
    assert families(PoolCollector(pool))["offloop_tenant_tasks_waiting"].samples == []


@pytest.mark.anyio
async def test_several_pools_are_told_apart_by_their_names(
    offloop_pool_factory: Callable[..., Awaitable[Pool]], pool: Pool
) -> None:
    other = await offloop_pool_factory(1, plugins=[FaultsPlugin], memory_limit="64MiB")
    await other.run(b"", [Noop()])
    read = families(PoolCollector({"images": pool, "models": other, "never entered": Pool(1)}))
    assert by_label(read, "offloop_tasks_submitted", "pool") == {"images": 0, "models": 1}
    assert by_label(read, "offloop_concurrency", "pool") == {"images": 2, "models": 1}
    assert samples(read)["offloop_workers", frozenset({("pool", "models"), ("state", "idle")})] == 1


@pytest.mark.anyio
async def test_a_pool_that_is_closed_has_its_last_numbers(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.run(b"", [Noop()])
    read = families(PoolCollector(pool))
    assert_same(read, pool.statistics())
    assert set(by_label(read, "offloop_workers", "state").values()) == {0}


def test_a_pool_that_was_never_entered_has_metrics_and_no_samples() -> None:
    read = families(PoolCollector(Pool(1)))
    assert "offloop_tasks_submitted" in read
    assert samples(read) == {}


def test_a_registry_refuses_a_second_collector_of_the_same_names_and_takes_one_of_others() -> None:
    registry = registry_of(PoolCollector(Pool(1)))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(PoolCollector(Pool(1)))
    registry.register(PoolCollector(Pool(1), namespace="thumbnails"))
    assert {family.name.partition("_")[0] for family in registry.collect()} == {"offloop", "thumbnails"}


@pytest.mark.parametrize(
    "settings", [{"namespace": "my-app"}, {"namespace": ""}, {"namespace": "ä"}, {"max_tenants": -1}, {"max_pipelines": -1}]
)
def test_what_makes_no_metric_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        PoolCollector(Pool(1), **settings)


def test_names_are_as_prometheus_wants_them() -> None:
    for family in PoolCollector(Pool(1)).describe():
        words = family.name.split("_")
        assert re.fullmatch(r"offloop(_[a-z]+)+", family.name)
        assert family.documentation.endswith("."), family.name
        assert not {"total", "count", "sum", "bucket", "info", "created"} & {words[-1]}, "what the client adds itself"
        assert not {"counter", "gauge", "histogram", "ms", "milliseconds", "us", "mb", "mib", "percent"} & set(words)
        assert family.type != "histogram" or words[-1] in {"seconds", "ratio"}
        assert family.type == "histogram" or words[-1] != "ratio"


class Noted:
    """Statistics that remember what was asked of them."""

    def __init__(self, numbers: Statistics) -> None:
        self.numbers = numbers
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self.numbers, name)


@pytest.mark.anyio
async def test_every_number_of_the_statistics_is_exported(pool: Pool) -> None:
    noted: Any = Noted(pool.statistics())
    for metric in METRICS:
        metric.read(noted)
    assert {field.name for field in msgspec.structs.fields(Statistics)} - noted.asked == {"last_start_failure"}, "it is text"


def test_without_the_package_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['prometheus_client.core'] = None; import offloop.prometheus"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.endswith('ImportError: offloop.prometheus needs prometheus-client: pip install "offloop[prometheus]"\n')
