"""Estimates memory and time of a pipeline: the plugins probe the headers, and each estimates its own operations.

Plugins are third-party code that reads untrusted bytes. An invalid estimate or any exception counts as no estimate. The
plugins are called in a thread, unless all plugins of the pipeline are `quick`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple, cast

import msgspec

from ..errors import TaskFailed
from ..operation import Estimate, Header, Operation, Plugin, SourceHeader
from .containment import reraise_interrupt

__all__ = ["Estimator", "SourceHead", "combine"]

_MAX_QUICK_PIPELINES = 4  # pipelines of one source that are estimated on the event loop
_MAX_QUICK_OPERATIONS = 32  # longest pipeline that is estimated on the event loop
_MAX_BYTES, _MAX_S = 1 << 60, 1e9  # limits of an estimate

_log = logging.getLogger("offloop.plugins")


class SourceHead(NamedTuple):
    """The part of a source that an estimate is made of."""

    nbytes: int  # length of the source in bytes
    data: memoryview | None  # its first bytes, at least `probe_nbytes` of them or all; None: it is samples
    shape: tuple[int, ...] = ()  # shape of samples


class Estimator:
    """Estimates of one pipeline, whose stages are pairs of a plugin and consecutive operations."""

    def __init__(self, stages: Sequence[tuple[Plugin, Sequence[Operation]]]) -> None:
        self._stages = stages
        self.first_plugin = stages[0][0]
        self.probe_nbytes = max(plugin.probe_nbytes for plugin, _ in stages)
        is_short = sum(len(operations) for _, operations in stages) <= _MAX_QUICK_OPERATIONS
        self.quick = is_short and all(plugin.quick for plugin, _ in stages)  # whether the event loop may call the plugins

    def estimate(self, sources: Sequence[SourceHead]) -> tuple[Estimate | None, str]:
        """Returns the estimate for a task with these sources, and the media type of the first one.

        If no header can be read, the plugins estimate without it, and the media type is "". That of samples is "", too. The
        estimate is None if a plugin has none.

        Raises:
            TaskFailed: the first plugin refuses the first source because of its header.
        """
        headers = [SourceHeader(_find_header(source, self._stages[:1]), source.nbytes) for source in sources[:1]]
        headers += [SourceHeader(_find_header(source, self._stages), source.nbytes) for source in sources[1:]]
        header = headers[0].header
        if header is not None and sources[0].data is not None:
            _refuse(*self._stages[0], header, sources[0].nbytes)
        return self._combined_estimate(headers), "" if header is None else header.media_type

    def estimate_any(self) -> Estimate | None:
        """Returns the estimate for every source, of a pipeline whose plugins read none (`probe_nbytes` is 0)."""
        return self._combined_estimate([SourceHeader(None, 0)])

    def _combined_estimate(self, sources: list[SourceHeader]) -> Estimate | None:
        """Combine the stages' estimates: the sum of their work, and the maximum of their memory, because they run in turn."""
        estimates: list[Estimate] = []
        source, attached = sources[0], sources[1:]
        for index, (plugin, operations) in enumerate(self._stages):
            if index:
                source = _source_after(*self._stages[index - 1], source)
            estimate = _estimate(plugin, [source, *attached], operations)
            if estimate is None:
                return None
            estimates.append(estimate)
        return Estimate(
            peak_bytes=max(estimate.peak_bytes for estimate in estimates),
            work_s=sum(estimate.work_s for estimate in estimates),
            output_bytes=max(estimate.output_bytes for estimate in estimates),
        )


def combine(estimators: Sequence[Estimator]) -> Estimator:
    """Returns the estimator of several pipelines on one source, which run in turn."""
    return _CombinedEstimator(estimators)


class _CombinedEstimator(Estimator):
    """Sums the work and the results of several pipelines, and takes the maximum of their memory."""

    def __init__(self, estimators: Sequence[Estimator]) -> None:
        self._estimators = estimators
        plugins = {estimator.first_plugin for estimator in estimators}
        self._sharing = estimators[0].first_plugin if len(plugins) == 1 else None  # plugin whose processor may share work
        self.probe_nbytes = max(estimator.probe_nbytes for estimator in estimators)
        self.quick = len(estimators) <= _MAX_QUICK_PIPELINES and all(estimator.quick for estimator in estimators)

    def estimate(self, sources: Sequence[SourceHead]) -> tuple[Estimate | None, str]:
        total, media_type = _sum(_not_refused(self._estimators, sources))
        if total is None or self._sharing is None or sources[0].data is None:
            return total, media_type
        header = _probe(self._sharing, sources[0].data)
        return _with_shared_bytes(total, self._sharing, header), media_type


def _not_refused(estimators: Sequence[Estimator], sources: Sequence[SourceHead]) -> list[tuple[Estimate | None, str]]:
    """Returns the estimates of the pipelines for which the source is not refused. The worker refuses it for the others.

    Raises:
        TaskFailed: the source is refused for all of them.
    """
    found: list[tuple[Estimate | None, str]] = []
    refusal: TaskFailed | None = None
    for estimator in estimators:
        try:
            found.append(estimator.estimate(sources))
        except TaskFailed as error:
            refusal = error
    if refusal is not None and not found:
        raise refusal
    return found


def _refuse(plugin: Plugin, operations: Sequence[Operation], header: Header, nbytes: int) -> None:
    try:
        plugin.refuse(header, operations, nbytes)
    except TaskFailed:
        raise
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("refuse of %r raised, which it must not, except TaskFailed", plugin.name)


def _with_shared_bytes(total: Estimate, plugin: Plugin, header: Header | None) -> Estimate | None:
    try:
        return _checked(msgspec.structs.replace(total, peak_bytes=total.peak_bytes + plugin.shared_bytes(header)))
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("shared_bytes of %r raised, or is invalid", plugin.name)
        return None


def _sum(found: Sequence[tuple[Estimate | None, str]]) -> tuple[Estimate | None, str]:
    media_type = found[0][1]
    estimates = [estimate for estimate, _ in found if estimate is not None]
    if len(estimates) < len(found):
        return None, media_type
    total = Estimate(
        peak_bytes=max(estimate.peak_bytes for estimate in estimates),
        work_s=sum(estimate.work_s for estimate in estimates),
        output_bytes=sum(estimate.output_bytes for estimate in estimates),
    )
    return total, media_type


def _find_header(source: SourceHead, stages: Sequence[tuple[Plugin, Sequence[Operation]]]) -> Header | None:
    """Returns the header from the first plugin that recognizes a source. Of samples, only a picture, (height, width) or
    (height, width, bands), has a header."""
    if source.data is not None:
        for plugin, _ in stages:
            if (header := _probe(plugin, source.data)) is not None:
                return header
        return None
    if len(source.shape) not in (2, 3):
        return None
    height, width, *bands = source.shape
    return Header(media_type="", width=width, height=height, bands=bands[0] if bands else 1)


def _probe(plugin: Plugin, head: memoryview) -> Header | None:
    try:
        header = plugin.probe(head[: plugin.probe_nbytes])
        is_valid = header is None or _is_header(header)
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("the probe of %r raised, which it must not", plugin.name)
        return None
    if not is_valid:
        _log.error("the probe of %r returned an invalid header: %r", plugin.name, header)
        return None
    return header


def _is_header(header: object) -> bool:
    return isinstance(header, Header) and isinstance(cast("object", header.media_type), str)


def _estimate(plugin: Plugin, sources: list[SourceHeader], operations: Sequence[Operation]) -> Estimate | None:
    try:
        if len(sources) == 1:
            estimate = plugin.estimate(sources[0].header, operations, sources[0].nbytes)
        else:
            estimate = plugin.estimate_sources(sources, operations)
        return None if estimate is None else _checked(estimate)
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("the estimate of %r raised, or is invalid", plugin.name)
        return None


def _source_after(plugin: Plugin, operations: Sequence[Operation], source: SourceHeader) -> SourceHeader:
    try:
        output = plugin.source_after(source, operations)
        known = SourceHeader(output.header, min(max(int(output.nbytes), 0), _MAX_BYTES))
    except BaseException as error:
        reraise_interrupt(error)
        _log.exception("source_after of %r raised, or is invalid", plugin.name)
        return SourceHeader(None, 0)
    if known.header is None or _is_header(known.header):
        return known
    _log.error("source_after of %r returned an invalid header: %r", plugin.name, known.header)
    return SourceHeader(None, 0)


def _checked(estimate: Estimate) -> Estimate:
    """Returns an estimate of whole bytes and finite seconds. Numbers of numpy and other types are converted, and large numbers
    are limited, so that sums and products of them cannot overflow.

    Raises:
        Exception: a number is negative, not finite, or not a number.
    """
    work_s = float(estimate.work_s)
    checked = Estimate(
        peak_bytes=min(int(estimate.peak_bytes), _MAX_BYTES),
        work_s=min(work_s, _MAX_S),
        output_bytes=min(int(estimate.output_bytes), _MAX_BYTES),
    )
    if min(checked.peak_bytes, checked.output_bytes, checked.work_s) < 0 or not isfinite(work_s):
        raise ValueError(f"{estimate!r}: must be numbers from 0")
    return checked
