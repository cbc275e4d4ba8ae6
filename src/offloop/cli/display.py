"""Output of `offloop convert`: a line for each converted file, a progress bar on a terminal, a summary.

Lines about converted files go to stdout, so that programs can read them. All other output goes to stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from time import monotonic

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .batch import Converted, Failed, Outcome
from .wording import printable, shown, size

__all__ = ["Display"]

_SETTINGS_LOG = logging.getLogger("offloop.settings")


class Display:
    """Counts outcomes and shows them."""

    def __init__(self) -> None:
        self.failures: list[Failed] = []
        self._converted = self._nbytes_in = self._nbytes_out = 0
        self._started_at = monotonic()
        self._bar = _bar() if sys.stderr.isatty() else None
        self._bar_task = None if self._bar is None else self._bar.add_task("", total=None, tally="")

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar is shown, which needs the total number of files."""
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

    def expect(self, total: int) -> None:
        """Set the total number of files."""
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, total=total)

    def report(self, outcome: Outcome) -> None:
        """Count an outcome, and show it if it is a success. `summarize` shows failures, so that they do not scroll away."""
        if isinstance(outcome, Failed):
            self.failures.append(outcome)
        else:
            self._converted += 1
            self._nbytes_in += outcome.nbytes_in
            self._nbytes_out += outcome.nbytes_out
            self._show_converted(outcome)
            if outcome.pages_left_out:
                count, suffix = outcome.pages_left_out, outcome.destination.suffix
                self._warn(f"{shown(outcome.source)}: {count} pages or frames were left out, because a {suffix} file has one")
        if self._bar is not None and self._bar_task is not None:
            tally = f"{len(self.failures)} failed" if self.failures else ""
            self._bar.update(self._bar_task, advance=1, tally=tally)

    def summarize(self, *, interrupted: bool) -> None:
        """Show each failure, then the numbers of files and bytes."""
        for failure in self.failures:
            click.echo(f"failed: {shown(failure.source)}: {failure.reason}", err=True)
        numbers = f"{self._converted} converted, {len(self.failures)} failed"
        sizes = f"{size(self._nbytes_in)} -> {size(self._nbytes_out)}"
        begin = "interrupted: " if interrupted else ""
        click.echo(f"{begin}{numbers}, {sizes} in {monotonic() - self._started_at:.1f} s", err=True)

    def _warn(self, message: str) -> None:
        line = f"warning: {printable(message)}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def _show_converted(self, converted: Converted) -> None:
        sizes = f"{size(converted.nbytes_in)} -> {size(converted.nbytes_out)}"
        line = f"{shown(converted.source)} -> {shown(converted.destination)} ({sizes})"
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


def _bar() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[tally]}", style="red"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False)
