"""Which files there are, and where the output of each one goes: one after another, as they are asked for.

Nothing is gathered beforehand, so a tree of a million files costs what its outputs' names cost. Those have to be remembered:
two sources must not write one file. Everything here blocks on the file system, so the batch runs it in a thread.
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
    """A file to be converted."""

    source: str
    nbytes: int
    format: str  # as its name tells, or else its first bytes
    destination: Path


class Refused(msgspec.Struct, frozen=True):
    """Something that cannot be converted, and why: it counts as a failure of its own."""

    source: str
    reason: str


Selected: TypeAlias = Picked | Refused


def select(sources: Sequence[str], out: Path, recipe: Recipe) -> Iterator[Selected]:
    """Every file that was named, and every picture below every directory that was named, with its destination in `out`.

    A directory's structure is kept below `out`. `out` itself is never walked, so a second run does not convert the first one's
    outputs. Where two sources would write one file the first has it, and the second is refused.
    """
    named = {os.path.realpath(source) for source in sources}  # an output must not replace what is still to be read
    taken: set[str] = set()
    for source, relative in _files(sources, os.path.realpath(out)):
        if isinstance(relative, Refused):
            yield relative
            continue
        yield _pick(source, relative, out, recipe, named, taken)


def overwritten_source(sources: Sequence[str], out: Path) -> str | None:
    """The directory among the sources that is `out` itself, where outputs would replace originals; None if there is none."""
    real = os.path.realpath(out)
    return next((source for source in sources if os.path.isdir(source) and os.path.realpath(source) == real), None)


def _files(sources: Sequence[str], out: str) -> Iterator[tuple[str, PurePath | Refused]]:
    """Each file with its place below the output directory."""
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


def _pick(source: str, relative: PurePath, out: Path, recipe: Recipe, named: set[str], taken: set[str]) -> Selected:
    try:
        nbytes = os.stat(source).st_size
        source_format = format_of(source) if recipe.to is None else FORMAT_OF_SUFFIX.get(relative.suffix.lower(), recipe.to)
    except OSError as error:
        return Refused(source, f"cannot be read: {error.strerror}")
    if source_format is None:
        return Refused(source, "neither its name nor its first bytes tell a format; say which one to write with --to")
    destination = out / relative.with_name(recipe.output_name(relative.name, source_format))
    if os.path.realpath(destination) in named:
        return Refused(source, f"its output {shown(destination)} would replace a source; choose another --out")
    if str(destination) in taken:
        return Refused(source, f"its output {shown(destination)} is another source's already; choose another --out for it")
    taken.add(str(destination))
    return Picked(source, nbytes, source_format, destination)
