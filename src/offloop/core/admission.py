"""Whether a task may run at all: not, if its source is known to kill workers."""

from __future__ import annotations

from .commands import Command
from .dispatch import Dispatch
from .identification import Identification
from .ledger import Ledger
from .quarantine import Quarantine
from .tasks import TaskRecord

__all__ = ["Admission"]


class Admission:
    """Lets tasks in, or looks at their source first."""

    def __init__(self, ledger: Ledger, quarantine: Quarantine, identification: Identification, dispatch: Dispatch) -> None:
        self._ledger = ledger
        self._quarantine = quarantine
        self._identification = identification
        self._dispatch = dispatch

    def enter(self, task: TaskRecord, now: float) -> list[Command]:
        """A task's source is in place. One that lies in an outbox is the result of a task that did no harm."""
        spec = task.spec
        assert spec is not None
        if spec.outbox_id is not None or not self._quarantine.suspects(spec, now):
            return self._dispatch.enter(task, now)
        if spec.source.block is None:
            return self.identified(task, b"", now)
        return [self._identification.begin(task)]

    def identified(self, task: TaskRecord, digest: bytes | None, now: float) -> list[Command]:
        """A task that looks like one that killed a worker may run, unless it is the same. No digest: nobody knows."""
        assert task.spec is not None
        task.digest = digest
        refusal = None if digest is None else self._quarantine.refusal(task.spec, digest, now)
        if refusal is not None:
            return self._ledger.settle(task, refusal)
        return self._dispatch.enter(task, now)
