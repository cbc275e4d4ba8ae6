"""Tiles of a picture: each file an output of a stream, or all of them in one ZIP archive."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile, ZipInfo

from offloop.errors import InvalidTask
from offloop.processor import Encoded, Task

from ..limits import check_output_nbytes
from ..operations import Tiles
from ..picture import Picture

__all__ = ["save_tiles"]

codecs.lookup("cp437")  # because `zipfile` loads it to read an archive, and the sandbox refuses imports by then
_DROPPED = "vips-properties.xml"  # which has the time and all fields of the source
_MEDIA_TYPES = {
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".dzi": "application/xml",
    ".xml": "application/xml",
    ".json": "application/json",
}
_DESCRIPTIONS = (".dzi", ".xml", ".json")
_DEEP_ZOOM = re.compile(r"tiles_files/(\d+)/(\d+)_(\d+)\.")


def save_tiles(picture: Picture, tiles: Tiles, task: Task, max_nbytes: int | None, *, emits: bool) -> Encoded:
    """Makes the tiles of a picture, and hands each file over as an output if the caller of the task receives outputs.

    Args:
        picture: the picture.
        tiles: their size and layout.
        task: the task.
        max_nbytes: maximum length of all files together; None: no limit.
        emits: whether files may be handed over one by one.

    Returns:
        The last output: the description of the pyramid; or an archive of all files, if the caller receives one result.

    Raises:
        InvalidTask: the picture has several pages.
        TaskFailed: "output_too_large".
        TaskCancelled: the task was cancelled.
        pyvips.Error: the pixels could not be computed or encoded.
    """
    if picture.pages > 1:
        raise InvalidTask(f"Tiles are of one page, but Decode read {picture.pages}")
    picture = tiles.prepare(picture.in_colour_space("srgb"))
    picture = picture.with_image(picture.evaluation.report_progress(picture.image.copy()))
    made = tiles.save(picture)
    check_output_nbytes(len(made), max_nbytes)
    with ZipFile(io.BytesIO(made)) as files:
        names = sorted((name for name in files.namelist() if not name.endswith(_DROPPED)), key=_is_description)
        info = {"width": picture.image.width, "height": picture.image.height, **picture.extra_info}
        if emits and len(names) > 1 and task.emit(_file(files, names[0], task, info), names[0]):
            for name in names[1:-1]:
                task.emit(_file(files, name, task, info), name)
            return _file(files, names[-1], task, info)
        return _archive(files, names, task, info)


def _is_description(name: str) -> bool:
    return name.endswith(_DESCRIPTIONS)


def _file(files: ZipFile, name: str, task: Task, info: dict[str, Any]) -> Encoded:
    data, suffix = files.read(name), PurePosixPath(name).suffix
    output = task.output(len(data))
    output.write(data)
    place = {"name": name}
    found = _DEEP_ZOOM.match(name)
    if found is not None:
        place |= dict(zip(("level", "column", "row"), map(int, found.groups()), strict=True))
    return Encoded(output.view, {"media_type": _MEDIA_TYPES[suffix], "format": suffix[1:], **place, **info})


def _archive(files: ZipFile, names: list[str], task: Task, info: dict[str, Any]) -> Encoded:
    """Returns an archive without compression, in which all files have the same time, so that it depends on the picture only."""
    archive = io.BytesIO()
    with ZipFile(archive, "w") as copied:
        for name in names:
            task.checkpoint()
            copied.writestr(ZipInfo(name), files.read(name))
    data = archive.getbuffer()
    output = task.output(data.nbytes)
    output.write(data)
    made = {"media_type": "application/zip", "format": "zip", "tiles": sum(not _is_description(name) for name in names), **info}
    return Encoded(output.view, made)
