"""What the core's decisions depend on, beside events and time."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

__all__ = ["FIRST_GRANT_NBYTES", "MAX_NEEDS", "AdmissionMode", "CoreSettings"]

FIRST_GRANT_NBYTES = 256 * 1024  # result memory sent along with a task: most thumbnails need no more
MAX_NEEDS = 10_000  # of one task: each costs the loop an answer, and an enemy asks for as long as its task may run

_ADDRESSES_BYTES = 256 * 1024 * 1024  # RLIMIT_DATA counts them, too


class AdmissionMode(Enum):
    """What the memory budget means for tasks."""

    ENFORCE = "enforce"  # tasks wait for memory, or are refused
    SHADOW = "shadow"  # no task waits or is refused; the budget counts the tasks that would have been
    OFF = "off"  # no budget


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the decisions depend on."""

    workers: int  # tasks at once
    min_workers: int | None = None  # processes that are kept for them; None: as many
    idle_timeout_s: float = 30.0  # after which more than that go
    limit_bytes: int  # pages of shared memory, all segments together
    inbox_nbytes: int  # the part of it that sources may fill
    inbox_addresses_nbytes: int | None = None  # addresses of the inbox, for streams that grow in place; None: as many
    bounded_by: str = "memory_limit"  # what decided `limit_bytes`, for error texts
    max_queue: int | None  # tasks that may wait; None: any number
    max_queue_bytes: int | None = None  # that their sources may have
    grace_s: float  # between telling a task to stop and SIGKILL
    start_timeout_s: float  # seconds from starting a process to its `Loading`
    load_timeout_s: float = 60.0  # seconds from `Loading` to `Ready`
    kill_timeout_s: float = 5.0  # from SIGKILL to waitid's word, which takes milliseconds, or seconds on a machine that swaps
    budget_bytes: int | None = None  # all memory: of workers, tasks and segments; None: nobody asks
    admission: AdmissionMode = AdmissionMode.ENFORCE  # what that means
    spares: int = 0  # ready workers beyond that
    max_starts: int = 1024  # processes that may be starting at the same moment
    restart_intensity: int = 1_000_000  # crashes within the period that are borne
    restart_period_s: float = 10.0
    quarantine_after: int | None = None  # deaths that content may cause before it is refused; None: any number
    quarantine_s: float = 300.0  # for how long it is
    max_tasks_per_worker: int | None = None  # a worker is replaced after so many, give or take a fifth; None: never
    max_worker_age_s: float | None = None  # and after so long
    max_worker_bytes: int | None = None  # and when it has so much private memory between two tasks
    tenant_weights: Mapping[str, float] | None = None  # shares of the workers' time; who is not named has 1
    plugins: tuple[str, ...] = ()  # names of the plugins that each worker loads, in this order
    seed: int = 0  # of the jitter

    @property
    def hard_limit_bytes(self) -> int | None:
        """What a worker can never have for itself, whatever it does: all that there is, and addresses that are no memory."""
        if self.budget_bytes is None or self.admission is not AdmissionMode.ENFORCE:
            return None
        return self.budget_bytes + _ADDRESSES_BYTES
