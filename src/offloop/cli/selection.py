"""Finds the files to convert and the output path of each, in an iterator.

Files are found when the iterator is advanced. Only the paths of outputs are kept in memory, because two sources must not write
one file. All functions block on the file system, so `batch` runs them in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

import msgspec

from .recipe import FORMAT_OF_SUFFIX, Recipe, format_of
from .wording import shown

__all__ = ["Picked", "Refused", "Selected", "overwritten_source", "select"]


class Picked(msgspec.Struct, frozen=True):
    """A file to convert."""

    source: str  # path of the file
    nbytes: int  # length of the file in bytes
    format: str  # format by its suffix, or else by its first bytes
    destination: Path  # path of the output


class Refused(msgspec.Struct, frozen=True):
    """A file or directory that cannot be converted. It counts as a failure."""

    source: str  # path of the file or directory
    reason: str  # reason in one line


Selected: TypeAlias = Picked | Refused


def select(sources: Sequence[str], out: Path, recipe: Recipe) -> Iterator[Selected]:
    """Yields all files of `sources`, and all pictures below its directories, with their output paths in `out`.

    A directory's structure is kept below `out`. `out` is never walked, so a second run does not convert the outputs of the
    first. If two sources have the same output path, the second is refused.
    """
    source_paths = {os.path.realpath(source) for source in sources}  # because an output must not replace a source
    output_paths: set[str] = set()
    for source, relative in _files(sources, os.path.realpath(out)):
        if isinstance(relative, Refused):
            yield relative
            continue
        yield _pick(source, relative, out, recipe, source_paths, output_paths)


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


def _pick(
    source: str, relative: PurePath, out: Path, recipe: Recipe, source_paths: set[str], output_paths: set[str]
) -> Selected:
    try:
        nbytes = os.stat(source).st_size
        source_format = format_of(source) if recipe.to is None else FORMAT_OF_SUFFIX.get(relative.suffix.lower(), recipe.to)
    except OSError as error:
        return Refused(source, f"cannot be read: {error.strerror}")
    if source_format is None:
        return Refused(source, "its format is unknown by its suffix and its first bytes; give the output format with --to")
    destination = out / relative.with_name(recipe.output_name(relative.name, source_format))
    if os.path.realpath(destination) in source_paths:
        return Refused(source, f"its output {shown(destination)} would replace a source; choose another --out")
    if str(destination) in output_paths:
        return Refused(source, f"its output {shown(destination)} is another source's already; choose another --out for it")
    output_paths.add(str(destination))
    return Picked(source, nbytes, source_format, destination)
