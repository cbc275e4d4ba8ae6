"""What the workers of a group have reported about their sandbox, and whether a worker may run tasks with it."""

from __future__ import annotations

import msgspec

from ...pool_events import SandboxReported
from ...sandbox import LAYERS, Layer, Posture, SandboxMode
from ...wire.text import printable
from ..telemetry.event_log import EventLog

__all__ = ["SandboxReports"]

_MAX_REASON_LENGTH = 200  # characters of a reason


class SandboxReports:
    """The posture of a group's workers. Each change is an event."""

    def __init__(self, group: str, mode: SandboxMode, event_log: EventLog) -> None:
        self.posture: Posture | None = None
        """The last posture that a worker has reported; None: none has."""
        self._group = group
        self._mode = mode
        self._event_log = event_log

    def find_objection(self, posture: Posture | None) -> str | None:
        """The reason why a worker with this posture must not run tasks: with "strict", a layer is missing. None: it may."""
        if self._mode != "strict":
            return None
        missing: dict[Layer, str] = {} if posture is None else posture.missing
        lacking = LAYERS if posture is None or posture.mode != "strict" else tuple(missing)
        if not lacking:
            return None
        text = "; ".join(f"{layer} ({_printable(missing.get(layer, 'not reported'))})" for layer in lacking)
        return f"sandbox='strict', and its sandbox lacks: {text}"

    def on_worker_ready(self, posture: Posture | None, now: float) -> None:
        """A worker has become ready: report its posture if it is another one than before."""
        if posture is None:
            return
        posture = msgspec.structs.replace(posture, missing={layer: _printable(why) for layer, why in posture.missing.items()})
        if posture != self.posture:
            self.posture = posture
            self._event_log.append(SandboxReported(at=now, group=self._group, posture=posture))


def _printable(text: str) -> str:
    return printable(text, _MAX_REASON_LENGTH)
