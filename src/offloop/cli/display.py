"""What a person sees of a batch: a line for each file as it is finished, a bar where there is a terminal, a summary.

Lines about files that were written go to stdout, for whoever reads on; all the rest goes to stderr.
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
        self._started = monotonic()
        self._bar = _bar() if sys.stderr.isatty() else None
        self._bar_task = None if self._bar is None else self._bar.add_task("", total=None, tally="")

    @property
    def has_bar(self) -> bool:
        """Whether anybody would look at a total."""
        return self._bar is not None

    @contextmanager
    def shown(self) -> Generator[None]:
        """The bar is on the screen inside, and warnings about a pool's settings are shown."""
        handler = _Warnings(self._warn)
        _SETTINGS_LOG.addHandler(handler)
        try:
            with self._bar or nullcontext():
                yield
        finally:
            _SETTINGS_LOG.removeHandler(handler)

    def expect(self, total: int) -> None:
        """The number of files is known now."""
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, total=total)

    def report(self, outcome: Outcome) -> None:
        """Count an outcome; show it if it is a success. Failures are for the end, where they are not scrolled away."""
        if isinstance(outcome, Failed):
            self.failures.append(outcome)
        else:
            self._converted += 1
            self._nbytes_in += outcome.nbytes_in
            self._nbytes_out += outcome.nbytes_out
            self._say(outcome)
        if self._bar is not None and self._bar_task is not None:
            tally = f"{len(self.failures)} failed" if self.failures else ""
            self._bar.update(self._bar_task, advance=1, tally=tally)

    def summarize(self, *, interrupted: bool) -> None:
        """Say how it went: each failure by name, then all in numbers."""
        for failure in self.failures:
            click.echo(f"failed: {shown(failure.source)}: {failure.reason}", err=True)
        numbers = f"{self._converted} converted, {len(self.failures)} failed"
        sizes = f"{size(self._nbytes_in)} -> {size(self._nbytes_out)}"
        begin = "interrupted: " if interrupted else ""
        click.echo(f"{begin}{numbers}, {sizes} in {monotonic() - self._started:.1f} s", err=True)

    def _warn(self, message: str) -> None:
        line = f"warning: {printable(message)}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def _say(self, converted: Converted) -> None:
        sizes = f"{size(converted.nbytes_in)} -> {size(converted.nbytes_out)}"
        line = f"{shown(converted.source)} -> {shown(converted.destination)} ({sizes})"
        if self._bar is not None and sys.stdout.isatty():  # one screen: only the bar knows how to write above itself
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        with suppress(BrokenPipeError):  # nobody reads the lines any more; the files are still wanted
            click.echo(line)


class _Warnings(logging.Handler):
    """Hands the text of each warning to a function, in the thread that logs it."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


def _bar() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[tally]}", style="red"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False)
