"""Loader of the further sources of a task: the second picture of a composite, a mark, a mask."""

from __future__ import annotations

import pyvips

from offloop.errors import TaskFailed
from offloop.processor import Encoded, Task

from ..evaluation import Evaluation
from ..headers.formats import FormatName
from ..operations import Decode
from ..picture import Picture
from ..pipeline import Pipeline
from .damage import confirmed_left_over_nbytes
from .libvips_errors import is_from_decoder, translate_error
from .loading import detect_format, load_encoded, load_raster

__all__ = ["load_attachment"]


def load_attachment(task: Task, decode: Decode, index: int, picture: Picture) -> Picture:
    """Returns the picture of a further source: in memory, upright, with the depth of `picture`.

    Args:
        task: the task.
        decode: the parameters of the first source, of which `max_pixels` and `fail_on` hold for all sources.
        index: index of the source.
        picture: the picture that the step is applied to, whose depth and colour space the result has.

    Raises:
        TaskFailed: as for the first source. The message tells that it is about an attachment.
    """
    payload = task.sources[index]
    try:
        if isinstance(payload, Encoded):
            space = "p3" if picture.colour_space == "p3" else "srgb"
            decode = Decode(max_pixels=decode.max_pixels, fail_on=decode.fail_on, colours=space)
            loaded = _load(payload, decode, picture.evaluation)
        else:
            loaded = load_raster(payload, picture.evaluation)
    except TaskFailed as error:
        failure = TaskFailed(error.code, f"attachment {index}: {error.message}")
    else:
        loaded = loaded.in_colour_space("p3") if picture.colour_space == "p3" else loaded  # samples are sRGB
        return loaded.with_depth(16 if picture.is_deep else 8)
    raise failure


def _load(payload: Encoded, decode: Decode, evaluation: Evaluation) -> Picture:
    source = detect_format(payload, decode)
    evaluation.take_messages()
    earlier, reader = len(evaluation.messages), evaluation.scan_reader
    evaluation.scan_reader = None
    try:
        loaded = load_encoded(payload, source, Pipeline(decode, (), None), evaluation).upright().with_random_access()
        if decode.fail_on == "warning":
            _check_damage(payload, evaluation, earlier, source, decode)
    except pyvips.Error as error:
        failure = translate_error(error, source)
    else:
        del evaluation.messages[earlier:]  # which are not about the first source
        evaluation.scan_reader = reader
        return loaded
    raise failure


def _check_damage(payload: Encoded, evaluation: Evaluation, first_message: int, source: FormatName, decode: Decode) -> None:
    left_over = confirmed_left_over_nbytes(payload, source, decode, evaluation)
    evaluation.take_messages()
    damage = [line for line in evaluation.messages[first_message:] if is_from_decoder(line, source)]
    if left_over:
        damage.append(f"{left_over} bytes of its scan are left over")
    if damage:
        raise TaskFailed("corrupt_source", f"the {source} source is damaged: {damage[0]}")
