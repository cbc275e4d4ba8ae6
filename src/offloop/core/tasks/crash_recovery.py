"""What becomes of the task that a dead worker had.

It may have an answer in the worker's last words. It may never have been begun: then another worker gets it, once, because
nothing has happened. Else it has killed its worker, or was killed with it, and nobody can say which: it fails, unless its
caller wants it tried again, and then on a worker that no other task can have harmed before. Before it ends, its source is
identified, so that content that kills again and again is known by its digest. If a worker had to be killed because its task did
not stop at the deadline, that is a strike against the content, too.
"""

from __future__ import annotations

from contextlib import suppress

from ...errors import CrashReport
from ...pool_events import TaskRetried
from ...wire.messages import Done, Failed, Ready
from ..model.commands import Command
from ..model.events import WorkerReaped
from ..model.task import Stop, TaskRecord
from ..model.worker_slot import Slot
from ..model.worker_state import WorkerEvent
from ..scheduling.task_queue import TaskQueue
from ..telemetry.event_log import Journal
from .answer_checks import ForgedClaim, claimed_block
from .completion import Answers
from .outcomes import of_death, of_stop
from .quarantine import Quarantine
from .source_hashing import Identification
from .task_table import Ledger

__all__ = ["Deaths", "was_begun"]


def was_begun(task: TaskRecord, event: WorkerReaped) -> bool:
    """Whether a dead worker is known to have begun its task: it had noted that, or said something about it."""
    noted = event.status is not None and event.status.task_id == task.task_id
    return noted or any(not isinstance(message, Ready) and message.task_id == task.task_id for message in event.last_words)


class Deaths:
    """Settles, retries and remembers."""

    def __init__(
        self,
        ledger: Ledger,
        queue: TaskQueue,
        answers: Answers,
        quarantine: Quarantine,
        identification: Identification,
        journal: Journal,
    ) -> None:
        self.retries = 0  # tasks that were given to another worker, for statistics
        self._ledger = ledger
        self._queue = queue
        self._answers = answers
        self._quarantine = quarantine
        self._identification = identification
        self._journal = journal

    def bury(self, slot: Slot, task: TaskRecord, event: WorkerReaped, report: CrashReport) -> list[Command]:
        """Settle a dead worker's task, or let it wait for another worker."""
        assert task.spec is not None
        for message in event.last_words if report.reason is None else ():
            if isinstance(message, Done | Failed) and message.task_id == task.task_id:
                with suppress(ForgedClaim):
                    return self._answers.settle(slot, task, message, claimed_block(slot, task, message))
        begun = event.status is None or was_begun(task, event)
        if task.stop is not None and report.reason is None:
            died_by_itself = slot.life.last is WorkerEvent.EXITED
            # not where the caller left, because the task might have ended in time
            strikes = begun and (died_by_itself or task.stop is Stop.DEADLINE)
            commands = self._strike(task) if strikes else []
            return commands + self._ledger.settle(task, of_stop(task, obeyed=False, running=report.running))
        self._ledger.end_grants(task)
        error = of_death(report)
        if task.stop is not None or task.spec.outbox_id is not None:
            commands = self._strike(task) if begun else []
            return commands + self._ledger.settle(task, error)  # a source that lay with the dead worker has gone with it
        if not begun and slot.verdict is None:
            if task.dispatches - task.deaths > 1:
                return self._ledger.settle(task, error)
            return self._again(task)
        task.deaths += 1
        task.fate = error
        return self._strike(task) or self._end(task)

    def identified(self, task: TaskRecord, digest: bytes | None) -> list[Command]:
        """The task's source was read, after its worker had died of it."""
        task.digest = digest
        return self._end(task)

    def _strike(self, task: TaskRecord) -> list[Command]:
        """Count a strike against the task's content: now if its digest is known, else when its source was read.

        The strike is the content's. It is counted also if the task has its outcome by then, because its caller left.
        """
        spec = task.spec
        assert spec is not None
        if not self._quarantine.watches or spec.outbox_id is not None:
            return []
        if spec.source.block is None:
            task.digest = b""
        if task.digest is None:
            return [self._identification.begin(task, strike=True)]
        self._quarantine.strike(spec, task.digest, self._journal.now)
        return []

    def _end(self, task: TaskRecord) -> list[Command]:
        """It fails, or it is tried again."""
        assert task.spec is not None
        error, task.fate = task.fate, None
        if task.deaths > task.spec.retries or self._is_quarantined(task):
            return self._ledger.settle(task, error)
        return self._again(task)

    def _is_quarantined(self, task: TaskRecord) -> bool:
        assert task.spec is not None
        return task.digest is not None and self._quarantine.refusal(task.spec, task.digest, self._journal.now) is not None

    def _again(self, task: TaskRecord) -> list[Command]:
        self.retries += 1
        self._journal.enter(TaskRetried(at=self._journal.now, task_id=task.task_id, deaths=task.deaths))
        if task.deaths:
            self._queue.push_for_fresh(task)
        else:
            self._queue.push_front(task)
        return []
