"""Settings of the core."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from ...operation import DEFAULT_GROUP, SMALL_TASKS_GROUP
from ...sandbox import Isolation, SandboxMode

__all__ = [
    "FIRST_GRANT_NBYTES",
    "INLINE_COPY_NBYTES",
    "KEPT_INBOX_NBYTES",
    "MAX_NEEDS",
    "AdmissionMode",
    "CoreSettings",
    "GroupSettings",
]

FIRST_GRANT_NBYTES = 256 * 1024  # bytes of result memory that are sent with a task; enough for most thumbnails
INLINE_COPY_NBYTES = 512 * 1024  # longest sources that the loop itself copies for a worker: well under a millisecond
KEPT_INBOX_NBYTES = 16 * 1024 * 1024  # bytes of its own inbox that a worker keeps between two tasks; more are released
MAX_NEEDS = 10_000  # memory requests of one task: each costs the event loop an answer, and a hostile worker repeats them

_ADDRESSES_BYTES = 256 * 1024 * 1024  # bytes of addresses without memory, which RLIMIT_DATA counts, too


class AdmissionMode(Enum):
    """Effect of the memory budget on tasks."""

    ENFORCE = "enforce"  # tasks wait for memory, or are refused
    SHADOW = "shadow"  # no task waits or is refused; the budget counts the tasks that would have been
    OFF = "off"  # no budget


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one worker group."""

    name: str = DEFAULT_GROUP
    workers: int  # maximum number of its tasks that run at once
    min_workers: int | None = None  # minimum number of processes; 0: it starts with its first task; None: `workers`
    spares: int = 0  # number of ready workers beyond `workers`, while the group has any
    idle_timeout_s: float = 30.0  # seconds without a task after which processes beyond the minimum are retired
    load_timeout_s: float = 60.0  # seconds from `Loading` to `Ready`
    restart_intensity: int = 1_000_000  # number of tolerated crashes within the period
    restart_period_s: float = 10.0
    max_tasks_per_worker: int | None = None  # number of tasks after which a worker is replaced, varied by a fifth; None: never
    max_worker_age_s: float | None = None  # seconds after which a worker is replaced; None: never
    max_worker_bytes: int | None = None  # private memory between two tasks above which a worker is replaced; None: no limit
    plugins: tuple[str, ...] = ()  # names of the plugins that each worker loads, in this order
    isolation: Isolation = "pool"  # tasks that may run in one worker; with "task", `max_tasks_per_worker` is 1
    sandbox: SandboxMode = "auto"  # whether a worker whose sandbox lacks a layer may run tasks
    private_sources: bool = False  # whether a task's sources are copied into its worker's own inbox

    @property
    def is_on_demand(self) -> bool:
        """Whether the group has no worker before its first task."""
        return self.min_workers == 0

    def for_small_tasks(self) -> GroupSettings:
        """The settings of the group for small tasks beside this group's large ones."""
        return msgspec.structs.replace(self, name=SMALL_TASKS_GROUP, min_workers=0, spares=0)


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that the decisions of the core depend on."""

    groups: tuple[GroupSettings, ...]  # the worker groups, first the default one; without the group for small tasks
    limit_bytes: int  # limit of reserved shared memory, all segments together
    inbox_nbytes: int  # limit of the inbox, a part of `limit_bytes`
    inbox_addresses_nbytes: int | None = None  # addresses of the inbox, for streams that grow in place; None: `inbox_nbytes`
    bounded_by: str = "memory_limit"  # name of the setting that decided `limit_bytes`, for error texts
    max_queue: int | None  # maximum number of waiting tasks; None: no limit
    max_queue_bytes: int | None = None  # maximum length of all waiting sources; None: no limit
    grace_s: float  # seconds from `Cancel` or `Retire` to SIGKILL
    start_timeout_s: float  # seconds from starting a process to its `Loading`
    kill_timeout_s: float = 5.0  # seconds from SIGKILL to exit; typically milliseconds, or seconds on a machine that swaps
    budget_bytes: int | None = None  # memory budget of workers, tasks and segments; None: no budget
    admission: AdmissionMode = AdmissionMode.ENFORCE  # effect of the budget
    max_starts: int = 1024  # maximum number of processes that start at the same time, in all groups
    quarantine_after: int | None = None  # number of strikes after which content is refused; None: no quarantine
    quarantine_s: float = 300.0  # seconds for which content is refused
    max_sent_tasks: int = 0  # maximum number of tasks that a worker has behind the one that it runs
    tenant_weights: Mapping[str, float] | None = None  # shares of the workers' time; 1 for a tenant that is not listed
    seed: int = 0  # seed of the jitter

    @property
    def hard_limit_bytes(self) -> int | None:
        """Hard limit of a worker's private memory: the whole budget, and addresses without memory; None: no limit."""
        if self.budget_bytes is None or self.admission is not AdmissionMode.ENFORCE:
            return None
        return self.budget_bytes + _ADDRESSES_BYTES
