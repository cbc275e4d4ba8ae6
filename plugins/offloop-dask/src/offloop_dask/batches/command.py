"""The command `offloop cluster-map`: runs a pipeline on a listing of objects, on a cluster."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from offloop import OffloopError, Operation

from .manifest import Counts

__all__ = ["cluster_map"]

_INTERRUPTED = 128 + signal.SIGINT


@click.command("cluster-map")
@click.argument("sources")
@click.option("--to", required=True, help='Where the results go: a URL such as "s3://bucket/folder".')
@click.option("--scheduler", required=True, envvar="DASK_SCHEDULER_ADDRESS", help="Address of the dask scheduler.")
@click.option("--manifest", type=click.Path(path_type=Path), help="File that records what is done. Default: cluster-map.db.")
@click.option("--resume", is_flag=True, help="Continue the batch of the manifest.")
@click.option("--retry-failed", is_flag=True, help="Do the failed sources again. Together with --resume.")
@click.option("--format", "format_", type=click.Choice(["webp", "jpeg", "png", "avif"]), help="Format of the pictures.")
@click.option("--resize", type=click.IntRange(1), help="Maximum width and height in pixels.")
@click.option("--quality", type=click.IntRange(1, 100), help="Quality of the pictures.")
@click.option("--pipeline", metavar="MODULE:NAME", help="A list of operations of a module, instead of --format.")
@click.option("--plugin", "plugins", multiple=True, help='Plugin of the nodes, or "module:attribute". Default: all installed.')
@click.option("--suffix", help='Suffix of the results, as ".webp". Default: that of --format, or of each source.')
@click.option("--retries", default=2, show_default=True, type=click.IntRange(0, 100), help="Retries after a death.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0.001), help="Seconds for each source.")
@click.option("--report", type=click.Path(path_type=Path), help="File for a JSON line for each failure.")
@click.option("--storage-option", "storage_options", multiple=True, metavar="KEY=VALUE", help="Option of the storage.")
@click.option("--node-option", "node_options", multiple=True, metavar="KEY=VALUE", help="Setting of the nodes' pools.")
def cluster_map(**given: Any) -> int:
    """Run a pipeline on every object below a prefix, on the nodes of a dask cluster.

    SOURCES is a URL such as "s3://bucket/folder", or a file with a URL in each line, "-" for stdin. Credentials come from the
    environment, here for the listing, on the nodes for sources and results. The exit code is 1 if a source has failed.
    """
    try:
        return asyncio.run(_interruptible(_run(given)))
    except OffloopError as error:
        raise click.ClickException(str(error)) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None


async def _interruptible(work: Awaitable[int]) -> int:
    """Cancel the work on SIGINT and SIGTERM. What is done is recorded then."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        click.echo("interrupted; continue with --resume", err=True)
        return _INTERRUPTED


async def _run(given: dict[str, Any]) -> int:
    from ..cluster_pool import ClusterPool  # noqa: PLC0415 (because `offloop --help` loads this module)
    from .pipelines import SUFFIXES  # noqa: PLC0415
    from .stored_batch import cluster_map as run_batch  # noqa: PLC0415

    pipeline = _pipeline_of(given)
    options = _pairs("--storage-option", given["storage_options"])
    node = {
        name: int(value) if value.isdigit() else value for name, value in _pairs("--node-option", given["node_options"]).items()
    }
    suffix = given["suffix"] or SUFFIXES.get(given["format_"])
    with _Display() as display:
        async with ClusterPool(
            given["scheduler"], plugins=given["plugins"] or None, node=node, storage_options=options, linger=0
        ) as pool:
            report = await run_batch(
                pool,
                given["sources"],
                pipeline,
                to=given["to"],
                manifest=given["manifest"] or Path("cluster-map.db"),
                resume=given["resume"],
                retry_failed=given["retry_failed"],
                suffix=suffix,
                retries=given["retries"],
                timeout=given["timeout"],
                storage_options=options,
                on_progress=display.update,
                report=given["report"],
            )
    counts = report.counts
    click.echo(
        f"{report.new_done:,} results in {report.seconds:.1f} s; of {counts.total:,} sources {counts.done:,} are done and "
        f"{counts.failed:,} have failed; {counts.nbytes:,} bytes"
    )
    if counts.failed:
        click.echo("the failures are in the manifest" + (f" and in {given['report']}" if given["report"] else ""), err=True)
    return 1 if counts.failed else 0


def _pipeline_of(given: dict[str, Any]) -> Sequence[Operation]:
    from .pipelines import find_pipeline, picture_pipeline  # noqa: PLC0415 (because `offloop --help` loads this module)

    if (given["format_"] is None) == (given["pipeline"] is None):
        raise click.UsageError("give --format or --pipeline")
    if given["pipeline"] is not None:
        return find_pipeline(given["pipeline"])
    return picture_pipeline(given["format_"], given["resize"], given["quality"])


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    wrong = next((name for name, separator, _ in pairs if not separator or not name), None)
    if wrong is not None:
        raise click.UsageError(f"{option} {wrong}: give KEY=VALUE")
    return {name: value for name, _, value in pairs}


class _Display:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=None, failed=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self._progress.stop()

    def update(self, counts: Counts, is_listed: bool) -> None:
        """Show these numbers."""
        total = counts.total if is_listed else None
        self._progress.update(self._task, completed=counts.done + counts.failed, total=total, failed=counts.failed)
