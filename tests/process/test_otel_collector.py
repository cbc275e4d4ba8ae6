"""Spans and metrics go through a collector: the SDK exports them by OTLP, the collector takes them in and sends them on.

The collector is Rotel, whose program is in a package for Python. The end of the way is a server of HTTP in this process, which
decodes what the collector sends with the classes of the protocol's definition.
"""

from __future__ import annotations

import gzip
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from offloop import Pool, TaskFailed
from offloop.otel import instrument
from offloop.testing.faults import Echo, FaultsPlugin, Raise

LIMIT_S = 20

pytestmark = pytest.mark.skipif(find_spec("rotel") is None, reason="there is no collector: pip install --pre rotel")


class Backend(ThreadingHTTPServer):
    """The end of the way: keeps every span and every metric that a collector sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}  # the last one by name

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.spans += [span for r in traces.resource_spans for scope in r.scope_spans for span in scope.spans]
        else:
            metrics = ExportMetricsServiceRequest.FromString(body)
            self.metrics |= {m.name: m for r in metrics.resource_metrics for scope in r.scope_metrics for m in scope.metrics}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        backend = self.server
        assert isinstance(backend, Backend)
        body = self.rfile.read(int(self.headers["content-length"]))
        backend.take(self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the contract)
        pass


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        thread = threading.Thread(target=backend.serve_forever)
        thread.start()
        yield backend
        backend.shutdown()
        thread.join()


def free_ports() -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return [first.getsockname()[1], second.getsockname()[1]]


@pytest.fixture
def collector(backend: Backend) -> Iterator[str]:
    """The address of a collector that sends everything on to the backend."""
    found = find_spec("rotel")
    assert found is not None
    assert found.origin is not None
    grpc, http = free_ports()
    options = {
        "otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
        "otlp-http-endpoint": f"127.0.0.1:{http}",
        "exporter": "otlp",
        "otlp-exporter-protocol": "http",
        "otlp-exporter-endpoint": f"http://127.0.0.1:{backend.server_port}",
    }
    command = [str(Path(found.origin).with_name("rotel-agent")), "start"]
    command += [text for name, value in options.items() for text in (f"--{name}", value)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        until(lambda: is_open(http) or process.poll() is not None)
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield f"http://127.0.0.1:{http}"
        process.terminate()
        process.communicate(timeout=LIMIT_S)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def until(condition: Any) -> None:
    deadline = monotonic() + LIMIT_S
    while not condition():
        assert monotonic() < deadline, "it did not come true"
        sleep(0.01)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_collector_takes_spans_and_metrics_and_sends_them_on(
    anyio_backend: object, collector: str, backend: Backend
) -> None:
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector}/v1/metrics"))
    meter_provider = MeterProvider([reader])
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with instrument(pool, tracer_provider=tracer_provider, meter_provider=meter_provider, name="images"):
            await pool.run(b"source", [Echo()], labels={"request_id": "4711"})
            with pytest.raises(TaskFailed) as caught:
                await pool.run(b"", [Raise()])
            assert tracer_provider.force_flush()
            assert meter_provider.force_flush()
    tracer_provider.shutdown()
    meter_provider.shutdown()
    until(lambda: len(backend.spans) == 8 and "offloop.task_run" in backend.metrics)

    completed, failed = sorted(
        (span for span in backend.spans if span.name == "offloop.run"), key=lambda span: span.status.code
    )
    children = [span.name for span in backend.spans if span.parent_span_id == completed.span_id]
    assert sorted(children) == ["offloop.execute", "offloop.stage", "offloop.wait"]
    found = {attribute.key: attribute.value for attribute in completed.attributes}
    assert found["offloop.label.request_id"].string_value == "4711"
    assert found["offloop.source.bytes"].int_value == 6
    assert [value.string_value for value in found["offloop.operations"].array_value.values] == ["faults.Echo"]
    assert (failed.status.code, failed.status.message) == (2, caught.value.public_message)

    (submitted,) = backend.metrics["offloop.tasks_submitted"].sum.data_points
    assert (submitted.as_int, submitted.attributes[0].value.string_value) == (2, "images")
    (times,) = backend.metrics["offloop.task_run"].histogram.data_points
    assert (times.count, backend.metrics["offloop.task_run"].unit) == (2, "s")
    assert "offloop.workers" in backend.metrics
