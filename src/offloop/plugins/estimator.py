"""What a pipeline will take of a source, as its plugins estimate it: the first reads the header, each estimates its part.

Plugins are foreign code that reads untrusted bytes. A wrong answer, or an exception of any kind, counts as no answer.
The code runs in a thread, unless all plugins of the pipeline promise to be quick.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isfinite
from typing import cast

from ..operation import Estimate, Header, Operation, Plugin
from .containment import reraise_interrupt

__all__ = ["Estimator"]

_FEW_OPERATIONS = 32
_MOST_BYTES, _MOST_S = 1 << 60, 1e9

_log = logging.getLogger("offloop.plugins")


class Estimator:
    """Estimates of one pipeline: consecutive operations, each with its plugin."""

    def __init__(self, parts: Sequence[tuple[Plugin, Sequence[Operation]]]) -> None:
        self._parts = parts
        self.probe_nbytes = parts[0][0].probe_nbytes
        few = sum(len(operations) for _, operations in parts) <= _FEW_OPERATIONS
        self.quick = few and all(plugin.quick for plugin, _ in parts)  # it need not be a thread that asks

    def estimate_bytes(self, head: memoryview, nbytes: int) -> tuple[Estimate | None, str]:
        """The estimate for an encoded source of `nbytes` bytes that starts with `head`, and its media type.

        Where no header can be read, the plugins are asked without one, and the media type is "". No estimate: None.
        """
        header = _header(self._parts[0][0], head[: self.probe_nbytes])
        return self._together(header, nbytes), "" if header is None else header.media_type

    def estimate_samples(self, shape: tuple[int, ...], nbytes: int) -> tuple[Estimate | None, str]:
        """The estimate for an array. Only a picture, of (height, width) or (height, width, bands), has a header."""
        if len(shape) not in (2, 3):
            return self._together(None, nbytes), ""
        height, width, *bands = shape
        return self._together(Header(media_type="", width=width, height=height, bands=bands[0] if bands else 1), nbytes), ""

    def _together(self, header: Header | None, nbytes: int) -> Estimate | None:
        """Stages run one after the other: their work adds up, their memory does not."""
        estimates: list[Estimate] = []
        for index, (plugin, operations) in enumerate(self._parts):
            estimate = _estimate(plugin, None if index else header, operations, 0 if index else nbytes)
            if estimate is None:
                return None
            estimates.append(estimate)
        return Estimate(
            peak_bytes=max(estimate.peak_bytes for estimate in estimates),
            work_s=sum(estimate.work_s for estimate in estimates),
            output_bytes=max(estimate.output_bytes for estimate in estimates),
        )


def _header(plugin: Plugin, head: memoryview) -> Header | None:
    try:
        header = plugin.probe(head)
        sound = header is None or _is_header(header)
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("the probe of %r raised, which it must not", plugin.name)
        return None
    if not sound:
        _log.error("what the probe of %r returned makes no sense: %r", plugin.name, header)
        return None
    return header


def _is_header(header: object) -> bool:
    return isinstance(header, Header) and isinstance(cast("object", header.media_type), str)


def _estimate(plugin: Plugin, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
    try:
        estimate = plugin.estimate(header, operations, nbytes)
        return None if estimate is None else _checked(estimate)
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("the estimate of %r raised, or makes no sense", plugin.name)
        return None


def _checked(estimate: Estimate) -> Estimate:
    """An estimate of whole bytes and finite times, none below zero; numpy's numbers and such are converted. What is beyond all
    memory and time is that, and no number that sums and products of floats could not hold."""
    work_s = float(estimate.work_s)
    checked = Estimate(
        peak_bytes=min(int(estimate.peak_bytes), _MOST_BYTES),
        work_s=min(work_s, _MOST_S),
        output_bytes=min(int(estimate.output_bytes), _MOST_BYTES),
    )
    if min(checked.peak_bytes, checked.output_bytes, checked.work_s) < 0 or not isfinite(work_s):
        raise ValueError(f"{estimate!r}: must be numbers from 0")
    return checked
