"""What a pool's state is made of, and how the parts are connected."""

from __future__ import annotations

from .memory.arena import Arena
from .memory.broker import Supply
from .memory.budget import Budget
from .model.pool_phase import Phase
from .model.settings import CoreSettings
from .scheduling.dispatcher import Dispatch
from .scheduling.task_queue import TaskQueue
from .tasks.admission import Admission
from .tasks.completion import Answers
from .tasks.crash_recovery import Deaths
from .tasks.quarantine import Quarantine
from .tasks.source_hashing import Identification
from .tasks.task_table import Ledger
from .telemetry.event_log import Journal
from .workers.abandoned_workers import AbandonedWorkers
from .workers.failure_streaks import FailureStreaks
from .workers.preloader import Warmth
from .workers.reconciler import Hiring
from .workers.run_clock import RunClock
from .workers.worker_table import Crew

__all__ = ["Parts"]


class Parts:
    """The workers (`crew`, `hiring`, `failure_streaks`, `warmth`, `abandoned`), the memory (`arena`, `budget`, `supply`), the
    order (`admission`, `queue`, `dispatch`), the outcomes (`ledger`, `answers`, `deaths`, `quarantine`, `identification`)."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.phase = Phase.OPEN
        self.journal = Journal()
        self.arena = Arena(settings.limit_bytes, settings.inbox_nbytes, settings.inbox_addresses_nbytes, settings.bounded_by)
        self.crew = Crew(settings.workers, self.journal)
        self.queue = TaskQueue(settings.tenant_weights)
        self.budget = Budget(self.arena, settings.budget_bytes, settings.admission)
        self.abandoned = AbandonedWorkers(self.arena, self.budget)
        self.supply = Supply(self.arena, self.budget)
        self.run_clock = RunClock(self.crew)
        self.ledger = Ledger(self.arena, self.supply, self.budget, self.queue, self.journal)
        self.hiring = Hiring(self.crew, self.arena, settings)
        self.failure_streaks = FailureStreaks()
        self.warmth = Warmth(self.crew)
        self.quarantine = Quarantine(settings.quarantine_after, settings.quarantine_s)
        self.identification = Identification(self.arena)
        self.dispatch = Dispatch(self.crew, self.queue, self.supply, self.budget)
        self.dispatch.preparing = lambda: self.preparing
        self.admission = Admission(settings, self.ledger, self.quarantine, self.identification, self.dispatch)
        self.answers = Answers(self.arena, self.ledger, self.quarantine)
        self.deaths = Deaths(self.ledger, self.queue, self.answers, self.quarantine, self.identification, self.journal)

    @property
    def preparing(self) -> int:
        """Tasks whose source is still on its way, or being looked at."""
        return len(self.ledger) - len(self.queue) - self.crew.running
