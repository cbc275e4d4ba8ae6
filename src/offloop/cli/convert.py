"""`offloop convert`: many files, in a pool, each written whole or not at all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
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

_AHEAD = 2  # files in flight beyond the workers: their sources are read while the workers are busy
_MAX_SIDE = 10_000_000  # what libvips allows


@click.command(no_args_is_help=True)
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory for the outputs.")
@click.option(
    "--to",
    type=click.Choice(["webp", "jpeg", "png", "avif"], case_sensitive=False),
    help="Format of the outputs. Default: each file's own, and PNG for GIF and TIFF.",
)
@click.option("--resize", type=click.IntRange(1, _MAX_SIDE), metavar="PIXELS", help="Longest side; nothing is enlarged.")
@click.option("--quality", type=click.IntRange(1, 100), help="Default: the encoder's own. PNG has none.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes. Default: one for each CPU.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="Seconds a file.")
@click.option("--memory-limit", metavar="SIZE", help='Memory for everything: workers, sources, results, as in "2GiB".')
@click.pass_context
def convert(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: Path,
    to: str | None,
    resize: int | None,
    quality: int | None,
    workers: int | None,
    timeout: float,
    memory_limit: str | None,
) -> None:
    """Convert pictures: files, and whatever pictures there are below directories.

    A directory's structure is kept below --out. Each output is written whole or not at all and replaces what is there.

    Exits with 0 if everything was converted, with 1 if something failed (all the rest is written), with 130 after Ctrl-C.
    """
    _check_plugin()
    from .display import Display  # noqa: PLC0415 (with what follows, it needs the plugin)
    from .recipe import Recipe  # noqa: PLC0415
    from .selection import overwritten_source, select  # noqa: PLC0415

    if to == "png" and quality is not None:
        raise click.UsageError("--quality says nothing about PNG, which loses nothing")
    if (directory := overwritten_source(sources, out)) is not None:
        raise click.UsageError(f"--out is the source {shown(directory)} itself, whose pictures would be replaced")
    recipe = Recipe(to=to, longest_side=resize, quality=quality)
    selection = _checked(select(sources, out, recipe))
    pool = _checked_pool(workers, timeout, memory_limit)
    run = _Run(pool, selection, lambda: select(sources, out, recipe), recipe, (workers or available_cpus().value) + _AHEAD)
    ctx.exit(run.carry_out(Display()))


class _Run:
    """One batch, from the first signal handler to the exit code."""

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
        self._error: OffloopError | None = None  # of the pool, not of a file
        self._signal: signal.Signals | None = None

    def carry_out(self, display: Display) -> int:
        """Convert everything, say how it went, and return the exit code."""
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
        async with anyio.create_task_group() as beside:
            await beside.start(self._cancel_on_signal, work)
            if display.has_bar:
                beside.start_soon(self._count, display)
            try:
                await self._convert(display, work)
            except OffloopError as error:  # kept out of the group, which would wrap it
                self._error = error
            beside.cancel_scope.cancel()

    async def _convert(self, display: Display, work: anyio.CancelScope) -> None:
        from .batch import convert_all  # noqa: PLC0415 (as in the command)

        async with self._pool as pool:
            with work:  # what a signal cancels; then the pool is closed as ever
                await convert_all(pool, self._selection, self._recipe, in_flight=self._in_flight, report=display.report)

    async def _cancel_on_signal(
        self, work: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """The first signal ends the work; another one changes nothing: what is left to do is short, and leaves no half file."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started()
            async for signum in received:
                self._signal = self._signal or signum
                work.cancel()

    async def _count(self, display: Display) -> None:
        """A second walk, which keeps nothing, tells how many there are, while the first one is being converted."""
        total = await anyio.to_thread.run_sync(_length, self._select_again())
        display.expect(total)


def _check_plugin() -> None:
    try:
        import offloop_vips  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] (offloop does not depend on it)
    except ImportError as error:
        why = "" if error.name == "offloop_vips" else f" ({one_line(error)})"
        raise click.ClickException(f"convert needs the plugin offloop-vips{why}: pip install offloop-vips") from None


def _checked(selection: Iterator[Selected]) -> Iterator[Selected]:
    """The same selection, which is known to have a first element; no pool is started for nothing."""
    first = next(selection, None)
    if first is None:
        from .recipe import FORMAT_OF_SUFFIX  # noqa: PLC0415 (as in the command)

        raise click.UsageError(
            f"no pictures were found: directories are searched for {', '.join(FORMAT_OF_SUFFIX)}; a file named by itself is "
            "taken whatever its name"
        )
    return chain((first,), selection)


def _checked_pool(workers: int | None, timeout: float, memory_limit: str | None) -> Pool:
    plugins: Sequence[Any] = ["vips"]  # others that are installed need not be loaded, nor be sound
    try:
        return Pool(workers, memory_limit=memory_limit, timeout=timeout, plugins=plugins)
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None


def _length(selection: Iterator[Selected]) -> int:
    length = 0
    for _ in selection:
        length += 1
        anyio.from_thread.check_cancelled()  # nobody waits for the end of a long walk
    return length
