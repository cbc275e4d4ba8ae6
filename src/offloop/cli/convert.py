"""`offloop convert`: converts many pictures in a pool. An output is never partial."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import anyio
import click
from anyio.abc import TaskStatus
from click.core import ParameterSource

from ..errors import OffloopError
from ..pool import Pool
from ..system import available_cpus
from .event_loop import run_in_loop
from .wording import one_line, shown

if TYPE_CHECKING:
    from ..client.batches.batch_progress import BatchProgress
    from .display import Display
    from .recipe import Recipe
    from .selection import Selection

__all__ = ["convert"]

_EXTRA_IN_FLIGHT = 2  # files in flight above the number of workers, whose sources are read while the workers are busy
_MAX_SIDE = 10_000_000  # limit of libvips in pixels
_GRACE_S = 0.1  # time of a worker to stop by itself, so that Ctrl-C ends the command within a second
_PROGRESS_PERIOD_S = 0.2  # time between two updates of the bar
_MAX_SHOWN_COLLISIONS = 5
_STREAM = "-"  # source that is stdin, with stdout as its output
_FOR_FILES = {"out", "name", "overwrite", "skip_larger", "dry_run", "as_json"}  # options without a meaning for stdin


class _Preset(NamedTuple):
    """Options that `--preset` sets, unless they are given."""

    to: str
    size: int | None
    quality: int


_PRESETS = {
    "web": _Preset("webp", 1920, 80),
    "thumbnail": _Preset("webp", 320, 75),
    "archive": _Preset("avif", None, 80),
}


def _sizes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Returns the lengths in their order, each once."""
    if value is None:
        return None
    length = click.IntRange(1, _MAX_SIDE)
    parts: list[Any] = value.split(",")
    return tuple(dict.fromkeys(length.convert(part, parameter, ctx) for part in parts))


def _format(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    return {"jpg": "jpeg", "tif": "tiff"}.get(value or "", value)


@click.command(no_args_is_help=True)
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Directory for the outputs. Required, except for stdin."
)
@click.option(
    "--to",
    type=click.Choice(["webp", "jpeg", "jpg", "png", "avif", "gif", "tiff", "tif"], case_sensitive=False),
    callback=_format,
    help="Format of the outputs. Default: the format of the source, and PNG for GIF and TIFF.",
)
@click.option(
    "--resize",
    callback=_sizes,
    metavar="PIXELS",
    help="Longest side. Several, as 320,640,1280, are widths: each picture becomes name-320w.webp and so on. "
    "Smaller pictures keep their size.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Default: the encoder's default. PNG and GIF have none; a TIFF is lossless without it.",
)
@click.option(
    "--preset",
    type=click.Choice(list(_PRESETS)),
    help="web: WebP, longest side 1920, quality 80. thumbnail: WebP, 320, 75. archive: AVIF, size of the source, 80. "
    "Other options come first.",
)
@click.option(
    "--name",
    metavar="TEMPLATE",
    help="Names of the outputs: {stem} and {suffix} of the source, {ext} of the format, {width}. "
    "As '{stem}-{suffix}.{ext}', which keeps a.jpg and a.png apart.",
)
@click.option("--overwrite/--skip-existing", default=True, help="Replace outputs that exist (default), or leave them alone.")
@click.option("--skip-larger", is_flag=True, help="Drop outputs that are larger than their source.")
@click.option("--dry-run", is_flag=True, help="Show what would be converted, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON for each file to stdout.")
@click.option("--quiet", is_flag=True, help="Show failures only.")
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
    out: Path | None,
    to: str | None,
    resize: tuple[int, ...] | None,
    quality: int | None,
    preset: str | None,
    name: str | None,
    overwrite: bool,
    skip_larger: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    remove_background: bool,
    max_pixels: int | None,
    workers: int | None,
    timeout: float,
    memory_limit: str | None,
) -> None:
    """Convert pictures: files, and all pictures below directories. The source - is stdin; its output goes to stdout.

    A directory's structure is kept below --out. Each output is written completely or not at all. If two files would have one
    output, nothing is converted.

    Exits with 0 if all files were converted, with 1 if a file failed (the others are written), with 130 after Ctrl-C.
    """
    _check_plugin("vips")
    if remove_background:
        _check_plugin("onnx")
    from .batch import Conversion  # noqa: PLC0415 (because these modules need the plugin)
    from .display import Display, Lines  # noqa: PLC0415
    from .standard_streams import StreamConversion  # noqa: PLC0415

    if as_json and quiet:
        raise click.UsageError("--json writes a line for each file, and --quiet none; leave one of them out")
    recipe = _recipe(to, resize, quality, preset, name, remove_background=remove_background, max_pixels=max_pixels)
    pool = _checked_pool(workers, timeout, memory_limit, ["vips", "onnx"] if remove_background else ["vips"])
    if _STREAM in sources:
        _check_stream(ctx, sources, recipe)
        display = Display(Lines.QUIET)
        ctx.exit(_Run(pool, display).carry_out(StreamConversion(recipe, display.report)))
    selection = _selection(ctx, sources, out, recipe, overwrite=overwrite)
    display = Display(Lines.JSON if as_json else Lines.QUIET if quiet else Lines.TEXT)
    _report_others(selection, display)
    if dry_run:
        ctx.exit(_show_plan(selection, display))
    max_in_flight = (workers or available_cpus().value) + _EXTRA_IN_FLIGHT
    conversion = Conversion(selection.files, recipe, display.report, max_in_flight=max_in_flight, skip_larger=skip_larger)
    ctx.exit(_Run(pool, display).carry_out(conversion if selection.files else None))


class _Work(Protocol):
    """What a run does with its pool."""

    @property
    def progress(self) -> BatchProgress: ...

    async def run(self, pool: Pool) -> None: ...


class _Run:
    """One run of `offloop convert`: opens the pool, handles signals, returns the exit code."""

    def __init__(self, pool: Pool, display: Display) -> None:
        self._pool = pool
        self._display = display
        self._error: OffloopError | None = None  # error of the pool; None: the pool worked
        self._signal: signal.Signals | None = None  # first received signal

    def carry_out(self, work: _Work | None) -> int:
        """Do the work, if there is any, and show the summary. Returns the exit code."""
        display = self._display
        if work is not None:
            with display.shown():
                run_in_loop(lambda: self._until_signalled(work))
        display.summarize(interrupted=self._signal is not None)
        if self._error is not None:
            raise click.ClickException(one_line(self._error))
        if self._signal is not None:
            return 128 + self._signal
        return 1 if display.failures else 0

    async def _until_signalled(self, work: _Work) -> None:
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as task_group:
            await task_group.start(self._cancel_on_signal, scope)
            if self._display.has_bar:
                task_group.start_soon(self._follow, work)
            try:
                async with self._pool as pool:
                    with scope:  # a signal cancels this scope; then the pool closes normally
                        await work.run(pool)
            except OffloopError as error:  # caught here, because the task group would wrap it
                self._error = error
            task_group.cancel_scope.cancel()
        self._display.show_progress(work.progress)

    async def _cancel_on_signal(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Cancel the work at the first signal. Further signals have no effect, because closing is short and must not be cut
        off."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started()
            async for signum in received:
                self._signal = self._signal or signum
                scope.cancel()

    async def _follow(self, work: _Work) -> None:
        while True:
            self._display.show_progress(work.progress)
            await anyio.sleep(_PROGRESS_PERIOD_S)


def _recipe(
    to: str | None,
    sizes: tuple[int, ...] | None,
    quality: int | None,
    preset: str | None,
    template: str | None,
    *,
    remove_background: bool,
    max_pixels: int | None,
) -> Recipe:
    from .recipe import Recipe, check_template  # noqa: PLC0415 (because it needs the plugin)

    if to in ("png", "gif") and quality is not None:
        raise click.UsageError(f"--quality has no effect on {to.upper()}, which has none; leave it out or choose another --to")
    longest_side = None
    if preset is not None:
        defaults = _PRESETS[preset]
        to, longest_side, quality = to or defaults.to, defaults.size, quality or defaults.quality
    recipe = Recipe(
        to=to,
        sizes=sizes or (longest_side,),
        quality=quality,
        remove_background=remove_background,
        max_pixels=max_pixels,
        template=template,
    )
    if template is not None:
        try:
            check_template(template, has_widths=recipe.has_widths)
        except ValueError as error:
            raise click.UsageError(f"--name {shown(template)}: {error}") from None
    return recipe


def _check_stream(ctx: click.Context, sources: Sequence[str], recipe: Recipe) -> None:
    """Check the options for stdin.

    Raises:
        click.UsageError: an option is about files, or there is more than one source or output, or stdout is a terminal.
    """
    if len(sources) > 1:
        raise click.UsageError("the source - is stdin, and must be the only one")
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in _FOR_FILES and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} is about files; the source - is stdin, and its output is stdout")
    if recipe.has_widths:
        raise click.UsageError("--resize has several widths, but stdout is one output; give one")
    if sys.stdout.isatty():
        raise click.UsageError("the output would go to the terminal; redirect stdout: offloop convert - > out.webp")


def _selection(ctx: click.Context, sources: Sequence[str], out: Path | None, recipe: Recipe, *, overwrite: bool) -> Selection:
    from .selection import overwritten_source, select  # noqa: PLC0415 (because it needs the plugin)

    if out is None:
        raise click.MissingParameter(ctx=ctx, param=next(param for param in ctx.command.params if param.name == "out"))
    if (directory := overwritten_source(sources, out)) is not None:
        raise click.UsageError(
            f"--out is the source {shown(directory)}, whose pictures would be replaced; choose another --out"
        )
    selection = select(sources, out, recipe, overwrite=overwrite)
    _check_selection(selection)
    return selection


def _report_others(selection: Selection, display: Display) -> None:
    """Report the files that are not converted."""
    from .batch import Failed  # noqa: PLC0415 (because it needs the plugin)

    for refused in selection.refused:
        display.report(Failed(refused.source, refused.reason))
    for skipped in selection.skipped:
        display.report(skipped)


def _show_plan(selection: Selection, display: Display) -> int:
    for file in selection.files:
        display.report_planned(file)
    display.summarize_plan()
    return 1 if display.failures else 0


def _check_plugin(name: str) -> None:
    module, distribution = f"offloop_{name}", f"offloop-{name}"
    try:
        import_module(module)
    except ImportError as error:
        why = "" if error.name == module else f" ({one_line(error)})"
        raise click.ClickException(f"convert needs the plugin {distribution}{why}: pip install {distribution}") from None


def _check_selection(selection: Selection) -> None:
    """Check a selection before a pool is started.

    Raises:
        click.UsageError: it is empty, or two files would have one output.
    """
    collisions = selection.collisions
    if collisions:
        lines = [
            f"{shown(collision.first)} and {shown(collision.second)} would both write {shown(collision.path)}"
            for collision in collisions[:_MAX_SHOWN_COLLISIONS]
        ]
        more = len(collisions) - len(lines)
        lines += [f"and {more} more"] if more else []
        raise click.UsageError(
            "\n".join([*lines, "nothing was converted; --name '{stem}-{suffix}.{ext}' or another --out helps"])
        )
    if selection.is_empty:
        from .recipe import FORMAT_OF_SUFFIX  # noqa: PLC0415 (because it needs the plugin)

        raise click.UsageError(
            f"no pictures were found: directories are searched for {', '.join(FORMAT_OF_SUFFIX)}; "
            "to convert a file with another suffix, give its path"
        )


def _checked_pool(workers: int | None, timeout: float, memory_limit: str | None, plugins: Sequence[Any]) -> Pool:
    # the plugins by name, because other installed plugins are not needed, and may be broken
    try:
        return Pool(workers, memory_limit=memory_limit, timeout=timeout, grace=_GRACE_S, plugins=plugins)
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None
