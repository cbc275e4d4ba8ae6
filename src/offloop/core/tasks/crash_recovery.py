"""Crash recovery: settles or retries the task of a dead worker.

- The last messages of the worker contain outputs or the answer of the task: they are delivered, and the task is settled.
- The task has handed over an output that is no preview: it fails, because a second run would hand it over again.
- The task was not begun: another worker gets it, once, because nothing has happened.
- Otherwise the task may have killed its worker. It fails, or is retried as often as its caller allows, but only on an unused
  worker, which no other task can have harmed. Its sources are hashed first, to recognise content that kills repeatedly.

If a worker had to be killed because its task did not stop at the deadline, that is a strike against the content, too.
"""

from __future__ import annotations

from contextlib import suppress

from ...errors import CrashReport, WorkerDied
from ...pool_events import TaskRetried
from ...wire.messages import Done, Failed, Loading, Output, OutputFailed, Ready
from ..model.commands import Command
from ..model.events import WorkerExited
from ..model.task import StopReason
from ..model.task_record import TaskRecord
from ..model.task_state import TaskEvent, TaskState
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent
from ..scheduling.task_queue import TaskQueue
from ..telemetry.event_log import EventLog
from .answer_checks import InvalidHandle, validate_answer, validate_output
from .completion import TaskCompletion
from .outcomes import error_of_crash, outcome_of_stop
from .quarantine import Quarantine
from .source_hashing import SourceHashing
from .task_table import TaskTable

__all__ = ["CrashRecovery", "was_begun"]


def was_begun(task: TaskRecord, event: WorkerExited) -> bool:
    """Whether a dead worker is known to have begun its task, from its status page or from a message about the task."""
    noted = event.status is not None and event.status.task_id == task.task_id
    return bool(noted or task.outputs) or any(
        not isinstance(message, Loading | Ready) and message.task_id == task.task_id for message in event.last_words
    )


class CrashRecovery:
    """Settles or retries the tasks of dead workers, and records strikes against their content."""

    def __init__(
        self,
        task_table: TaskTable,
        queue: TaskQueue,
        completion: TaskCompletion,
        quarantine: Quarantine,
        source_hashing: SourceHashing,
        event_log: EventLog,
    ) -> None:
        self.retries = 0  # number of tasks that were given to another worker, for statistics
        self._task_table = task_table
        self._queue = queue
        self._completion = completion
        self._quarantine = quarantine
        self._source_hashing = source_hashing
        self._event_log = event_log

    def recover(
        self, slot: WorkerSlot, task: TaskRecord, event: WorkerExited, report: CrashReport, now: float
    ) -> list[Command]:
        """Settle the task of a dead worker, or queue it for another worker."""
        commands = self._handle_last_messages(slot, task, event) if report.reason is None else []
        return commands if task.state is TaskState.SETTLED else commands + self._settle_or_retry(slot, task, event, report, now)

    def _handle_last_messages(self, slot: WorkerSlot, task: TaskRecord, event: WorkerExited) -> list[Command]:
        """Deliver the outputs in the last messages of a worker, and settle its task if they contain the answer."""
        commands: list[Command] = []
        for message in event.last_words:
            if not isinstance(message, Output | OutputFailed | Done | Failed) or message.task_id != task.task_id:
                continue
            with suppress(InvalidHandle):
                if isinstance(message, Output | OutputFailed):
                    _, block = validate_output(slot, task, message)
                    commands += self._completion.deliver(slot, task, message, block)
                else:
                    block = validate_answer(slot, task, message)
                    return commands + self._completion.settle(slot, task, message, block)
        return commands

    def _settle_or_retry(
        self, slot: WorkerSlot, task: TaskRecord, event: WorkerExited, report: CrashReport, now: float
    ) -> list[Command]:
        begun = event.status is None or was_begun(task, event)
        if task.stop is not None and report.reason is None:
            died_by_itself = slot.state_machine.last is WorkerEvent.DISCONNECTED
            # no strike if the caller cancelled, because the task might have ended in time
            strikes = begun and (died_by_itself or task.stop is StopReason.DEADLINE)
            commands = self._strike(task, now) if strikes else []
            return commands + self._task_table.settle(task, outcome_of_stop(task, obeyed=False, running=report.running))
        self._task_table.release_worker_blocks(task)
        error = error_of_crash(report)
        if task.stop is not None or task.spec.outbox_id is not None:
            commands = self._strike(task, now) if begun else []
            return commands + self._task_table.settle(task, error)  # sources in the dead worker's outbox are lost
        if not begun and slot.kill_reason is None:
            if task.dispatches - task.crashes > 1:
                return self._task_table.settle(task, error)
            return self._retry(task, now)
        return self._record_crash(task, error, now)

    def _record_crash(self, task: TaskRecord, error: WorkerDied, now: float) -> list[Command]:
        """Count a crash, and fail or retry the task; if its sources have to be hashed, do so after that."""
        task.crashes += 1
        task.pending_error = error
        hashing = self._strike(task, now)
        if hashing:
            task.apply(TaskEvent.HASH_REQUESTED)
        return hashing or self._fail_or_retry(task, now)

    def source_hashed(self, task: TaskRecord, digest: bytes | None, now: float) -> list[Command]:
        """Fail or retry the task after its sources were hashed. None: a source could not be read."""
        task.digest = digest
        return self._fail_or_retry(task, now)

    def _strike(self, task: TaskRecord, now: float) -> list[Command]:
        """Count a strike against the task's content: now if its digest is known, otherwise after its sources were hashed.

        The strike is counted even if the task has its outcome by then, because its caller cancelled.
        """
        spec = task.spec
        if not self._quarantine.enabled or spec.outbox_id is not None:
            return []
        if not task.source_nbytes:
            task.digest = b""
        if task.digest is None:
            return [self._source_hashing.begin(task, strike=True)]
        self._quarantine.strike(spec, task.digest, now)
        return []

    def _fail_or_retry(self, task: TaskRecord, now: float) -> list[Command]:
        """Settle the task with its pending error, or queue it again."""
        error, task.pending_error = task.pending_error, None
        if task.crashes > task.spec.retries or task.has_handed_over or self._is_quarantined(task, now):
            return self._task_table.settle(task, error)
        return self._retry(task, now)

    def _is_quarantined(self, task: TaskRecord, now: float) -> bool:
        return task.digest is not None and self._quarantine.refusal(task.spec, task.digest, now) is not None

    def _retry(self, task: TaskRecord, now: float) -> list[Command]:
        task.apply(TaskEvent.RETRIED)
        task.outputs = 0  # previews, which the next run hands over again
        self.retries += 1
        if self._event_log.watches_tasks:
            retried = TaskRetried(
                at=now,
                task_id=task.task_id,
                deaths=task.crashes,
                dispatched_at=task.dispatched_at,
                labels=task.spec.labels,
            )
            self._event_log.append(retried)
        if task.crashes:
            self._queue.push_for_unused_worker(task)
        else:
            self._queue.requeue_first(task)
        return []
