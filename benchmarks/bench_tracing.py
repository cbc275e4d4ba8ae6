"""What does OpenTelemetry cost for each task?

One worker and a task that does nothing, one at a time; CPU time of the server for each task, in turns in one run:

- "none": no observer;
- "api": `instrument` with the API package only, as in a program that has configured no SDK;
- "not sampled": the SDK, whose sampler drops every trace;
- "sampled": the SDK with four spans for each task, which a batch processor gives to an exporter that does nothing.

    python benchmarks/bench_tracing.py

Expected: without an observer nothing; with the API only at most half of the cost of a task.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import process_time

import anyio
from measuring import Samples, arguments
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

from offloop import Pool
from offloop.otel import instrument
from offloop.testing.faults import FaultsPlugin, Noop

TASKS = 1000  # in a turn


class Nowhere(SpanExporter):
    """An exporter that drops all spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def turn(pool: Pool, tasks: int) -> float:
    """CPU microseconds of this process for each task."""
    began = process_time()
    for _ in range(tasks):
        await pool.run(b"", [Noop()])
    return (process_time() - began) / tasks * 1e6


async def measure(rounds: int, tasks: int) -> Samples:
    sampled = TracerProvider()
    sampled.add_span_processor(BatchSpanProcessor(Nowhere()))
    providers = {"api": NoOpTracerProvider(), "not sampled": TracerProvider(sampler=ALWAYS_OFF), "sampled": sampled}
    samples: Samples = {name: [] for name in ("none", *providers)}
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await turn(pool, tasks)
        for _ in range(rounds):
            samples["none"].append(await turn(pool, tasks))
            for name, provider in providers.items():
                with instrument(pool, tracer_provider=provider, meter_provider=NoOpMeterProvider()):
                    samples[name].append(await turn(pool, tasks))
    sampled.shutdown()
    return samples


def main() -> None:
    options = arguments(__doc__)
    samples = anyio.run(measure, 1 if options.smoke else options.rounds, 20 if options.smoke else TASKS)
    base = statistics.median(samples["none"])
    print('CPU microseconds of the server for each task: median, least, most; times "none"')
    for name, values in samples.items():
        middle = statistics.median(values)
        print(f"{name:12} {middle:6.0f} {min(values):6.0f} {max(values):6.0f}   {middle / base:.2f}")


if __name__ == "__main__":
    main()
