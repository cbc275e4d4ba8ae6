"""Spans and metrics of OpenTelemetry, read with the exporters in memory of its SDK."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import time_ns
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from offloop import Pool, PoolObserver, TaskEnded, TaskFailed, TaskTimeout, WorkerDied, WorkerMoved
from offloop.otel import instrument
from offloop.prometheus import PoolCollector
from offloop.testing.faults import Echo, FaultsPlugin, HoldOn, Kill, KillOnce, Noop, Raise, Wait

pytestmark = pytest.mark.anyio

UNITS = {"s": "_seconds", "By": "_bytes", "": ""}


class Telemetry:
    """Providers whose spans and metrics stay in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])

    def instrument(self, pool: Pool, **options: Any) -> Any:
        return instrument(pool, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self) -> dict[str, tuple[str, list[Any]]]:
        """Unit and data points of each metric by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        metrics = [m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics]
        return {metric.name: (metric.unit or "", list(metric.data.data_points)) for metric in metrics}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def attributes(span: ReadableSpan) -> dict[str, Any]:
    assert span.attributes is not None
    return dict(span.attributes)


async def test_a_task_has_spans_in_order_below_the_span_of_its_caller(pool: Pool, telemetry: Telemetry) -> None:
    tracer = telemetry.tracer_provider.get_tracer("service")
    began = time_ns()
    with telemetry.instrument(pool), tracer.start_as_current_span("request") as request:
        await pool.run(b"x" * 1000, [Noop(), Echo()], tenant="acme")
    ended = time_ns()
    (run,) = telemetry.spans("offloop.run")
    assert run.parent is not None
    assert run.parent.span_id == request.get_span_context().span_id
    children = [telemetry.spans(name) for name in ("offloop.stage", "offloop.wait", "offloop.execute")]
    assert [len(spans) for spans in children] == [1, 1, 1]
    assert [child.parent and child.parent.span_id for (child,) in children] == [run.context and run.context.span_id] * 3
    # with the resolution of a loop's clock, which is a millisecond on uvloop
    start, end = times(run)
    assert began - 2_000_000 <= start <= end <= ended
    moments = [moment for (child,) in children for moment in times(child)]
    assert moments == sorted(moments)
    assert (moments[0], moments[-1]) == (start, end)
    assert all(first[1] == second[0] for first, second in pairwise(times(child) for (child,) in children))
    found = attributes(run)
    assert found.pop("offloop.task.id") > 0
    assert found.pop("offloop.estimate.bytes") >= 0
    assert found == {
        "offloop.outcome": "completed",
        "offloop.group": "default",
        "offloop.operations": ("faults.Noop", "faults.Echo"),
        "offloop.plugins": ("faults",),
        "offloop.source.bytes": 1000,
        "offloop.runs": 1,
        "offloop.tenant": "acme",
    }
    assert run.status.status_code is StatusCode.UNSET
    assert attributes(children[2][0])["offloop.worker.slot"] in {0, 1}


@pytest.mark.parametrize(
    ("operation", "error", "code"),
    [
        (Raise(), TaskFailed, "exception"),
        (Kill(signal.SIGKILL), WorkerDied, "WorkerDied"),
        (Wait(60), TaskTimeout, "TaskTimeout"),
    ],
)
async def test_an_error_is_the_status_of_the_span(
    pool_of_one: Pool, telemetry: Telemetry, operation: Any, error: type[Exception], code: str
) -> None:
    with telemetry.instrument(pool_of_one), pytest.raises(error) as caught:
        await pool_of_one.run(b"", [operation], timeout=0.2)
    for name in ("offloop.run", "offloop.execute"):
        (span,) = telemetry.spans(name)
        assert attributes(span)["error.type"] == code
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == caught.value.public_message  # type: ignore[attr-defined]


async def test_a_retried_task_has_a_span_for_each_worker(pool: Pool, telemetry: Telemetry, tmp_path: Path) -> None:
    with telemetry.instrument(pool):
        await pool.run(b"", [KillOnce(str(tmp_path / "killed"))], retries=1)
    (run,) = telemetry.spans("offloop.run")
    first, second = telemetry.spans("offloop.execute")
    assert attributes(run)["offloop.runs"] == 2
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert times(first)[1] <= times(second)[0]
    (wait,) = telemetry.spans("offloop.wait")
    assert times(wait)[1] == times(first)[0]
    points = telemetry.points()
    assert points["offloop.task_run"][1][0].count == 2
    assert points["offloop.task_wait"][1][0].count == 1


async def test_calls_that_share_a_task_are_links(pool: Pool, telemetry: Telemetry, tmp_path: Path) -> None:
    tracer = telemetry.tracer_provider.get_tracer("service")
    go = tmp_path / "go"

    async def call(name: str) -> None:
        with tracer.start_as_current_span(name):
            await pool.run(b"same", [HoldOn(str(go))], coalesce=True)

    with telemetry.instrument(pool):
        async with anyio.create_task_group() as calls:
            calls.start_soon(call, "first")
            calls.start_soon(call, "second")
            await until(lambda: pool.statistics().coalesced == 1)
            go.touch()
    (run,) = telemetry.spans("offloop.run")
    callers = {span.context and span.context.span_id for name in ("first", "second") for span in telemetry.spans(name)}
    assert run.parent is not None
    (link,) = run.links
    assert {run.parent.span_id, link.context.span_id} == callers


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.005)


async def test_a_task_that_waits_for_ever_has_no_span_of_a_worker(
    pool_of_one: Pool, telemetry: Telemetry, tmp_path: Path
) -> None:
    with telemetry.instrument(pool_of_one):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool_of_one.run, b"", [HoldOn(str(tmp_path / "go"))])
            await until(lambda: pool_of_one.statistics().running == 1)
            with anyio.move_on_after(0.05):
                await pool_of_one.run(b"", [Noop()])
            (tmp_path / "go").touch()
        cancelled, held = sorted(telemetry.spans("offloop.run"), key=lambda span: attributes(span)["offloop.outcome"])
    assert (attributes(cancelled)["offloop.outcome"], attributes(held)["offloop.outcome"]) == ("cancelled", "completed")
    assert cancelled.status.status_code is StatusCode.UNSET
    assert len(telemetry.spans("offloop.execute")) == 1
    assert len(telemetry.spans("offloop.wait")) == 2


async def test_a_trace_that_is_not_sampled_has_no_spans(pool_of_one: Pool, telemetry: Telemetry) -> None:
    silent = TracerProvider(sampler=ALWAYS_OFF)
    silent.add_span_processor(SimpleSpanProcessor(telemetry.exporter))
    with instrument(pool_of_one, tracer_provider=silent, meter_provider=telemetry.meter_provider):
        await pool_of_one.run(b"", [Noop()])
    assert telemetry.exporter.get_finished_spans() == ()


async def test_after_the_end_there_are_neither_spans_nor_values(pool_of_one: Pool, telemetry: Telemetry) -> None:
    with telemetry.instrument(pool_of_one):
        await pool_of_one.run(b"", [Noop()])
    await pool_of_one.run(b"", [Noop()])
    assert len(telemetry.spans("offloop.run")) == 1
    assert [name for name, (_, points) in telemetry.points().items() if points] == ["offloop.task_wait", "offloop.task_run"]


async def test_metrics_have_the_names_and_values_that_prometheus_has(pool: Pool, telemetry: Telemetry) -> None:
    collector = PoolCollector(pool)
    with telemetry.instrument(pool):
        for _ in range(3):
            await pool.run(b"", [Noop()])
        with pytest.raises(TaskFailed):
            await pool.run(b"", [Raise()])
        points = telemetry.points()
    numbers = pool.statistics()
    assert points["offloop.tasks_submitted"][1][0].value == 4
    assert {p.attributes["outcome"]: p.value for p in points["offloop.tasks"][1] if p.value} == {"completed": 3, "failed": 1}
    assert {p.attributes["code"]: p.value for p in points["offloop.task_errors"][1]} == {"exception": 1} == numbers.errors
    for name, told in (("offloop.task_run", numbers.run), ("offloop.task_wait", numbers.wait)):
        (point,) = points[name][1]
        assert point.count == told.count == 4
        assert point.sum == pytest.approx(told.sum_s, abs=0.02)
    registry = CollectorRegistry()
    registry.register(collector)
    scraped = {line.split()[2] for line in generate_latest(registry).decode().splitlines() if line.startswith("# TYPE")}
    parts = {f"offloop_estimate_{kind}_ratio.{part}" for kind in ("time", "memory") for part in ("sum", "count")}
    exported = {name.replace("offloop.", "offloop_") + UNITS[unit] for name, (unit, _) in points.items()}
    missing = {name.removesuffix("_total") for name in scraped} - exported
    assert missing - {"offloop_estimate_time_ratio", "offloop_estimate_memory_ratio"} <= empty(registry)
    assert exported - parts <= {name.removesuffix("_total") for name in scraped}


def empty(registry: CollectorRegistry) -> set[str]:
    """Names of the metrics without a value: OpenTelemetry leaves them out."""
    return {family.name for family in registry.collect() if not family.samples}


async def test_a_pool_that_was_not_entered_reports_nothing_and_then_its_name(
    anyio_backend: object, telemetry: Telemetry
) -> None:
    pool = Pool(1, plugins=[FaultsPlugin])
    with telemetry.instrument(pool, name="images"):
        assert telemetry.points() == {}
        async with pool:
            await pool.run(b"", [Noop()])
            points = telemetry.points()
    assert dict(points["offloop.tasks_submitted"][1][0].attributes) == {"offloop.pool": "images"}
    assert attributes(telemetry.spans("offloop.run")[0])["offloop.pool"] == "images"


@pytest.mark.parametrize("needed", [True, False])
async def test_an_observer_gets_steps_of_workers_only_if_it_needs_them(pool_of_one: Pool, needed: bool) -> None:
    kinds: list[type] = []

    class Watching(PoolObserver):
        needs_worker_moves = needed

        def event_published(self, event: object) -> None:
            kinds.append(type(event))

    pool_of_one.add_observer(Watching())
    await pool_of_one.run(b"", [Noop()])
    assert kinds.count(TaskEnded) == 1
    assert kinds.count(WorkerMoved) == 2 * needed
    reader = pool_of_one.events()
    await pool_of_one.run(b"", [Noop()])
    reader.close()
    assert [type(event) for event in [event async for event in reader]].count(WorkerMoved) == 2


async def test_an_observer_that_fails_changes_nothing(pool_of_one: Pool, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PoolObserver):
        def task_submitted(self, task_id: int) -> None:
            raise RuntimeError("submitted")

        def event_published(self, event: object) -> None:
            raise RuntimeError("published")

    observer = Broken()
    pool_of_one.add_observer(observer)
    assert bytes(await pool_of_one.run(b"as it came", [Echo()])) == b"as it came"
    pool_of_one.remove_observer(observer)
    told = len(caplog.messages)
    assert {"Broken.task_submitted", "Broken.event_published"} <= {
        message.split()[2].rpartition(".<locals>.")[2] for message in caplog.messages
    }
    await pool_of_one.run(b"", [Noop()])
    assert len(caplog.messages) == told


def test_a_negative_number_of_tenants_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tenants=-1"):
        instrument(Pool(1), max_tenants=-1)


def test_without_the_package_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import offloop.otel"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.endswith('ImportError: offloop.otel needs opentelemetry-api: pip install "offloop[otel]"\n')


def test_a_worker_knows_nothing_of_it() -> None:
    code = "import sys, offloop.worker.main; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
