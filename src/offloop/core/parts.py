"""What a pool's state is made of, and how the parts are connected."""

from __future__ import annotations

from .abandoned import AbandonedWorkers
from .admission import Admission
from .answers import Answers
from .arena import Arena
from .budget import Budget
from .core_settings import CoreSettings
from .crew import Crew
from .deaths import Deaths
from .dispatch import Dispatch
from .failure_streaks import FailureStreaks
from .hiring import Hiring
from .identification import Identification
from .journal import Journal
from .ledger import Ledger
from .phase import Phase
from .quarantine import Quarantine
from .queue import TaskQueue
from .run_clock import RunClock
from .supply import Supply
from .warmth import Warmth

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
