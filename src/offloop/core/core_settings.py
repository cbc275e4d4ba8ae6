"""What the core's decisions depend on, beside events and time."""

from __future__ import annotations

import msgspec

__all__ = ["FIRST_GRANT_NBYTES", "MAX_NEEDS", "CoreSettings"]

FIRST_GRANT_NBYTES = 256 * 1024  # result memory sent along with a task: most thumbnails need no more
MAX_NEEDS = 10_000  # of one task: each costs the loop an answer, and an enemy asks for as long as its task may run


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the decisions depend on."""

    workers: int
    limit_bytes: int  # pages of shared memory, all segments together
    inbox_nbytes: int  # the part of it that sources may fill
    max_queue: int | None  # tasks that may wait; None: any number
    grace_s: float  # between telling a task to stop and SIGKILL
    start_timeout_s: float  # from starting a process to its Ready
