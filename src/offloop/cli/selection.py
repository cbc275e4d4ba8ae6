"""Finds the files to convert and the output paths of each, before a pool is started.

So a collision of two outputs is known before anything is written, and the number of files before the first is converted. All
functions block on the file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import msgspec

from .recipe import FORMAT_OF_SUFFIX, Recipe, format_of
from .wording import shown

__all__ = ["Collision", "Output", "Picked", "Refused", "Selection", "Skipped", "overwritten_source", "select"]


class Output(msgspec.Struct, frozen=True):
    """A file to write."""

    path: Path
    size: int | None  # the size of `Recipe.sizes`


class Picked(msgspec.Struct, frozen=True):
    """A file to convert. It is a path, so that a pool takes it as a source."""

    source: str  # path of the file
    nbytes: int  # length of the file in bytes
    format: str  # format by its suffix, or else by its first bytes
    outputs: tuple[Output, ...]  # one for each size, without those that are left alone

    def __fspath__(self) -> str:
        return self.source


class Refused(msgspec.Struct, frozen=True):
    """A file or directory that cannot be converted. It counts as a failure."""

    source: str  # path of the file or directory
    reason: str  # reason in one line


class Skipped(msgspec.Struct, frozen=True):
    """A file that is left alone."""

    source: str  # path of the file
    reason: str  # reason in one line


class Collision(msgspec.Struct, frozen=True):
    """Two files with one output path."""

    first: str  # path of the file that was found first
    second: str  # path of the other file
    path: Path  # path of the output


class Selection(msgspec.Struct, frozen=True):
    """All files that were found, in the order in which they were found."""

    files: list[Picked] = []
    refused: list[Refused] = []
    skipped: list[Skipped] = []
    collisions: list[Collision] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not (self.files or self.refused or self.skipped)


def select(sources: Sequence[str], out: Path, recipe: Recipe, *, overwrite: bool = True) -> Selection:
    """Returns all files of `sources`, and all pictures below its directories, with their output paths in `out`.

    A directory's structure is kept below `out`. `out` is never walked, so a second run does not convert the outputs of the
    first. A file that is found twice is one.

    Args:
        sources: paths of files and directories.
        out: directory for the outputs.
        recipe: gives the outputs their names.
        overwrite: whether existing outputs are replaced; otherwise they are left alone.
    """
    picker = _Picker(sources, out, recipe, overwrite=overwrite)
    for source, relative in _files(sources, os.path.realpath(out)):
        if isinstance(relative, Refused):
            picker.selection.refused.append(relative)
        else:
            picker.add(source, relative)
    return picker.selection


def overwritten_source(sources: Sequence[str], out: Path) -> str | None:
    """Returns the source directory that is `out`, where outputs would replace sources; None if there is none."""
    real = os.path.realpath(out)
    return next((source for source in sources if os.path.isdir(source) and os.path.realpath(source) == real), None)


def _files(sources: Sequence[str], out: str) -> Iterator[tuple[str, PurePath | Refused]]:
    """Yields each file with its relative path below the output directory."""
    for source in sources:
        if os.path.isdir(source):
            yield from _below(source, out)
        else:
            yield source, PurePath(os.path.basename(source))


def _below(top: str, out: str) -> Iterator[tuple[str, PurePath | Refused]]:
    errors: list[OSError] = []
    real_top = os.path.realpath(top)
    for directory, subdirectories, names in os.walk(top, onerror=errors.append):
        relative = os.path.relpath(directory, top)
        real = os.path.normpath(os.path.join(real_top, relative))
        subdirectories[:] = sorted(name for name in subdirectories if os.path.join(real, name) != out)
        for name in sorted(names):
            if PurePath(name).suffix.lower() in FORMAT_OF_SUFFIX:
                yield os.path.join(directory, name), PurePath(relative, name)
        yield from _unreadable(errors)
    yield from _unreadable(errors)


def _unreadable(errors: list[OSError]) -> Iterator[tuple[str, Refused]]:
    while errors:
        error = errors.pop()
        directory = os.fsdecode(error.filename)
        yield directory, Refused(directory, f"the directory cannot be read: {error.strerror}")


class _Picker:
    """Adds files to a selection."""

    def __init__(self, sources: Sequence[str], out: Path, recipe: Recipe, *, overwrite: bool) -> None:
        self.selection = Selection()
        self._out = out
        self._recipe = recipe
        self._overwrite = overwrite
        self._source_paths = {os.path.realpath(source) for source in sources}  # because an output must not replace a source
        self._found: set[str] = set()  # paths of all files, with real directories
        self._writers: dict[str, str] = {}  # source of each output, by the path of the output

    def add(self, source: str, relative: PurePath) -> None:
        """Add a file, unless it was added before."""
        path = os.path.join(os.path.realpath(os.path.dirname(source)), os.path.basename(source))
        if path in self._found:
            return
        self._found.add(path)
        picked = self._pick(source, relative)
        if isinstance(picked, Refused):
            self.selection.refused.append(picked)
            return
        for output in picked.outputs:
            first = self._writers.setdefault(str(output.path), source)
            if first is not source:
                self.selection.collisions.append(Collision(first, source, output.path))
        outputs = tuple(output for output in picked.outputs if self._overwrite or not os.path.lexists(output.path))
        if outputs:
            self.selection.files.append(msgspec.structs.replace(picked, outputs=outputs))
        else:
            self.selection.skipped.append(Skipped(source, "its output exists"))

    def _pick(self, source: str, relative: PurePath) -> Picked | Refused:
        recipe = self._recipe
        try:
            nbytes = os.stat(source).st_size
            by_suffix = FORMAT_OF_SUFFIX.get(relative.suffix.lower(), recipe.to)
            source_format = format_of(source) if recipe.to is None else by_suffix
        except OSError as error:
            return Refused(source, f"cannot be read: {error.strerror}")
        if source_format is None:
            return Refused(source, "its format is unknown by its suffix and its first bytes; give the output format with --to")
        names = [(recipe.output_name(relative.name, source_format, size), size) for size in recipe.sizes]
        outputs = tuple(Output(self._out / relative.with_name(name), size) for name, size in names)
        for output in outputs:
            if os.path.realpath(output.path) in self._source_paths:
                return Refused(source, f"its output {shown(output.path)} would replace a source; choose another --out")
        return Picked(source, nbytes, source_format, outputs)
