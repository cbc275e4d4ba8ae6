"""Output of `offloop convert`: a line for each file, a progress bar on a terminal, a summary.

Lines about files go to stdout, so that programs can read them: text about converted files, or with `--json` one JSON object
for each file. All other output goes to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from time import monotonic
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..client.batches.batch_progress import BatchProgress
from .batch import Failed, Outcome
from .selection import Picked, Skipped
from .wording import duration, printable, shown, size

__all__ = ["Display", "Lines"]

_SETTINGS_LOG = logging.getLogger("offloop.settings")


class Lines(Enum):
    """What is shown of each file."""

    TEXT = "text"
    JSON = "json"
    QUIET = "quiet"  # failures only, and no bar and no summary


class Display:
    """Counts outcomes and shows them."""

    def __init__(self, lines: Lines = Lines.TEXT) -> None:
        self.failures: list[Failed] = []
        self._lines = lines
        self._converted = self._planned = self._skipped = self._nbytes_in = self._nbytes_out = 0
        self._started_at = monotonic()
        self._bar = _bar() if sys.stderr.isatty() and lines is not Lines.QUIET else None
        self._bar_task = None if self._bar is None else self._bar.add_task("", total=1.0, counts="", tally="", speed="")

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar is shown."""
        return self._bar is not None

    @contextmanager
    def shown(self) -> Generator[None]:
        """Show the bar, and warnings about a pool's settings, inside the block."""
        handler = _Warnings(self._warn)
        _SETTINGS_LOG.addHandler(handler)
        try:
            with self._bar or nullcontext():
                yield
        finally:
            _SETTINGS_LOG.removeHandler(handler)

    def show_progress(self, progress: BatchProgress) -> None:
        """Set the bar."""
        if self._bar is None or self._bar_task is None:
            return
        ended = progress.done + progress.failed
        speed = f"{ended / max(monotonic() - self._started_at, 0.001):.1f}/s"
        if progress.eta_s is not None and progress.fraction != 1.0:
            speed += f", {duration(progress.eta_s)} left"
        tally = f"{len(self.failures)} failed" if self.failures else ""
        counts = f"{ended}/{progress.total}"
        self._bar.update(self._bar_task, completed=progress.fraction or 0.0, counts=counts, tally=tally, speed=speed)

    def report(self, outcome: Outcome) -> None:
        """Count an outcome, and show it. `summarize` shows failures as text, so that they do not scroll away."""
        if isinstance(outcome, Failed):
            self.failures.append(outcome)
            self._show_object(outcome.source, "failed", reason=outcome.reason)
            return
        if isinstance(outcome, Skipped):
            self._skipped += 1
            self._show_object(outcome.source, "skipped", reason=outcome.reason)
            return
        self._converted += 1
        self._nbytes_in += outcome.nbytes_in
        self._nbytes_out += outcome.nbytes_out
        sizes = f"{size(outcome.nbytes_in)} -> {size(outcome.nbytes_out)}"
        self._show_text(f"{shown(outcome.source)} -> {_all_shown(outcome.destinations)} ({sizes})")
        self._show_object(
            outcome.source,
            "converted",
            outputs=[os.fspath(path) for path in outcome.destinations],
            nbytes_in=outcome.nbytes_in,
            nbytes_out=outcome.nbytes_out,
            pages_left_out=outcome.pages_left_out,
        )
        if outcome.pages_left_out:
            count, suffix = outcome.pages_left_out, outcome.destinations[0].suffix
            self._warn(f"{shown(outcome.source)}: {count} pages or frames were left out, because a {suffix} file has one")

    def report_planned(self, file: Picked) -> None:
        """Count a file that would be converted, and show its outputs."""
        self._planned += 1
        paths = [output.path for output in file.outputs]
        self._show_text(f"{shown(file.source)} -> {_all_shown(paths)}")
        self._show_object(file.source, "planned", outputs=[os.fspath(path) for path in paths], nbytes_in=file.nbytes)

    def summarize(self, *, interrupted: bool) -> None:
        """Show each failure, then the numbers of files and bytes."""
        self._show_failures()
        numbers = f"{self._converted} converted, {self._counts_of_others}"
        sizes = f"{size(self._nbytes_in)} -> {size(self._nbytes_out)} ({self._saved})"
        begin = "interrupted: " if interrupted else ""
        self._show_summary(f"{begin}{numbers}, {sizes} in {monotonic() - self._started_at:.1f} s")

    def summarize_plan(self) -> None:
        """Show each failure, then the number of files that would be converted."""
        self._show_failures()
        self._show_summary(f"{self._planned} would be converted, {self._counts_of_others}")

    @property
    def _counts_of_others(self) -> str:
        skipped = f", {self._skipped} skipped" if self._skipped else ""
        return f"{len(self.failures)} failed{skipped}"

    @property
    def _saved(self) -> str:
        saved = self._nbytes_in - self._nbytes_out
        return f"{size(saved)} saved" if saved >= 0 else f"{size(-saved)} more"

    def _show_failures(self) -> None:
        for failure in self.failures:
            click.echo(f"failed: {shown(failure.source)}: {failure.reason}", err=True)

    def _show_summary(self, line: str) -> None:
        if self._lines is not Lines.QUIET:
            click.echo(line, err=True)

    def _warn(self, message: str) -> None:
        line = f"warning: {printable(message)}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def _show_text(self, line: str) -> None:
        if self._lines is Lines.TEXT:
            self._show_line(line)

    def _show_object(self, source: str, status: str, **fields: Any) -> None:
        if self._lines is Lines.JSON:  # in ASCII, because a path may have bytes that are no text
            self._show_line(json.dumps({"source": source, "status": status, **fields}))

    def _show_line(self, line: str) -> None:
        if self._bar is not None and sys.stdout.isatty():  # because only the bar's console can print a line above the bar
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        with suppress(BrokenPipeError):  # because a closed stdout must not stop the conversion
            click.echo(line)


class _Warnings(logging.Handler):
    """Log handler that calls a function with the text of each warning, in the thread that logs it."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


def _all_shown(paths: Sequence[os.PathLike[str]]) -> str:
    return ", ".join(map(shown, paths))


def _bar() -> Progress:
    counts, tally, speed = (f"{{task.fields[{name}]}}" for name in ("counts", "tally", "speed"))
    columns = (BarColumn(), TextColumn(counts), TextColumn(tally, style="red"), TextColumn(speed), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False)
