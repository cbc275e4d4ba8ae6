"""`offloop convert`: converts many pictures in a pool. An output is never partial."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread
import click
from anyio.abc import TaskStatus

from ..errors import OffloopError
from ..pool import Pool
from ..system import available_cpus
from .event_loop import run_in_loop
from .wording import one_line, shown

if TYPE_CHECKING:
    from .display import Display
    from .recipe import Recipe
    from .selection import Selected

__all__ = ["convert"]

_EXTRA_IN_FLIGHT = 2  # files in flight above the number of workers, whose sources are read while the workers are busy
_MAX_SIDE = 10_000_000  # limit of libvips in pixels


@click.command(no_args_is_help=True)
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory for the outputs.")
@click.option(
    "--to",
    type=click.Choice(["webp", "jpeg", "png", "avif"], case_sensitive=False),
    help="Format of the outputs. Default: the format of the source, and PNG for GIF and TIFF.",
)
@click.option(
    "--resize", type=click.IntRange(1, _MAX_SIDE), metavar="PIXELS", help="Longest side. Smaller pictures keep their size."
)
@click.option("--quality", type=click.IntRange(1, 100), help="Default: the encoder's default. PNG has none.")
@click.option(
    "--remove-background",
    is_flag=True,
    help="Cut out people. JPEG sources become PNG; with --to jpeg the background is white. Needs offloop-onnx.",
)
@click.option("--max-pixels", type=click.IntRange(1), help="Largest picture, all frames together. Default: 210000000.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes. Default: one per CPU.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="Seconds per file.")
@click.option("--memory-limit", metavar="SIZE", help='Memory for workers, sources and results, such as "2GiB".')
@click.pass_context
def convert(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: Path,
    to: str | None,
    resize: int | None,
    quality: int | None,
    remove_background: bool,
    max_pixels: int | None,
    workers: int | None,
    timeout: float,
    memory_limit: str | None,
) -> None:
    """Convert pictures: files, and all pictures below directories.

    A directory's structure is kept below --out. Each output is written completely or not at all, and replaces an existing file.

    Exits with 0 if all files were converted, with 1 if a file failed (the others are written), with 130 after Ctrl-C.
    """
    _check_plugin("vips")
    if remove_background:
        _check_plugin("onnx")
    from .display import Display  # noqa: PLC0415 (because these modules need the plugin)
    from .recipe import Recipe  # noqa: PLC0415
    from .selection import overwritten_source, select  # noqa: PLC0415

    if to == "png" and quality is not None:
        raise click.UsageError("--quality has no effect on PNG, which is lossless; leave it out or choose another --to")
    if (directory := overwritten_source(sources, out)) is not None:
        raise click.UsageError(
            f"--out is the source {shown(directory)}, whose pictures would be replaced; choose another --out"
        )
    recipe = Recipe(to=to, longest_side=resize, quality=quality, remove_background=remove_background, max_pixels=max_pixels)
    selection = _checked(select(sources, out, recipe))
    pool = _checked_pool(workers, timeout, memory_limit, ["vips", "onnx"] if remove_background else ["vips"])
    run = _Run(
        pool, selection, lambda: select(sources, out, recipe), recipe, (workers or available_cpus().value) + _EXTRA_IN_FLIGHT
    )
    ctx.exit(run.carry_out(Display()))


class _Run:
    """One run of `offloop convert`: handles signals, converts the selection, returns the exit code."""

    def __init__(
        self,
        pool: Pool,
        selection: Iterator[Selected],
        select_again: Callable[[], Iterator[Selected]],
        recipe: Recipe,
        in_flight: int,
    ) -> None:
        self._pool = pool
        self._selection = selection
        self._select_again = select_again
        self._recipe = recipe
        self._in_flight = in_flight
        self._error: OffloopError | None = None  # error of the pool; None: the pool worked
        self._signal: signal.Signals | None = None  # first received signal

    def carry_out(self, display: Display) -> int:
        """Convert all files and show the summary. Returns the exit code."""
        with display.shown():
            run_in_loop(lambda: self._until_signalled(display))
        display.summarize(interrupted=self._signal is not None)
        if self._error is not None:
            raise click.ClickException(one_line(self._error))
        if self._signal is not None:
            return 128 + self._signal
        return 1 if display.failures else 0

    async def _until_signalled(self, display: Display) -> None:
        work = anyio.CancelScope()
        async with anyio.create_task_group() as task_group:
            await task_group.start(self._cancel_on_signal, work)
            if display.has_bar:
                task_group.start_soon(self._count, display)
            try:
                await self._convert(display, work)
            except OffloopError as error:  # caught here, because the task group would wrap it
                self._error = error
            task_group.cancel_scope.cancel()

    async def _convert(self, display: Display, work: anyio.CancelScope) -> None:
        from .batch import convert_all  # noqa: PLC0415 (because it needs the plugin)

        async with self._pool as pool:
            with work:  # a signal cancels this scope; then the pool closes normally
                await convert_all(pool, self._selection, self._recipe, in_flight=self._in_flight, report=display.report)

    async def _cancel_on_signal(
        self, work: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Cancel the work at the first signal. Further signals have no effect, because closing is short and must not be cut
        off."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started()
            async for signum in received:
                self._signal = self._signal or signum
                work.cancel()

    async def _count(self, display: Display) -> None:
        """Count the files for the bar, by a second walk of the selection while the files are converted."""
        total = await anyio.to_thread.run_sync(_length, self._select_again())
        display.expect(total)


def _check_plugin(name: str) -> None:
    module, distribution = f"offloop_{name}", f"offloop-{name}"
    try:
        import_module(module)
    except ImportError as error:
        why = "" if error.name == module else f" ({one_line(error)})"
        raise click.ClickException(f"convert needs the plugin {distribution}{why}: pip install {distribution}") from None


def _checked(selection: Iterator[Selected]) -> Iterator[Selected]:
    """Check that the selection is not empty before a pool is started. Returns an equal selection.

    Raises:
        click.UsageError: the selection is empty.
    """
    first = next(selection, None)
    if first is None:
        from .recipe import FORMAT_OF_SUFFIX  # noqa: PLC0415 (because it needs the plugin)

        raise click.UsageError(
            f"no pictures were found: directories are searched for {', '.join(FORMAT_OF_SUFFIX)}; "
            "to convert a file with another suffix, give its path"
        )
    return chain((first,), selection)


def _checked_pool(workers: int | None, timeout: float, memory_limit: str | None, plugins: Sequence[Any]) -> Pool:
    # the plugins by name, because other installed plugins are not needed, and may be broken
    try:
        return Pool(workers, memory_limit=memory_limit, timeout=timeout, plugins=plugins)
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None


def _length(selection: Iterator[Selected]) -> int:
    length = 0
    for _ in selection:
        length += 1
        anyio.from_thread.check_cancelled()  # because a walk can be long
    return length
