"""Claims on the tasks that wait at a worker, in its status page: each is either begun by the worker or withdrawn, never both.

The `Run` messages to one process have increasing numbers. The worker writes the number of a
`Run`, and then reads which numbers are withdrawn. The supervisor writes which numbers are withdrawn, and then reads the number
of the worker. A memory barrier between the two steps of both ends ensures that at least one end sees what the other has
written. The worker must be quick, so the supervisor executes the barrier of both ends (membarrier(2)). If both ends see each
other, the worker does not run the task, and answers `Skipped`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["claim_run", "withdraw_runs"]

_word = struct.Struct("Q")  # native, because a native word is read and written in one step
_BEGUN_OFFSET = 64  # word of the worker: the number of the last `Run` that it has begun or skipped
_FIRST_OFFSET, _LAST_OFFSET = 128, 136  # words of the supervisor: the withdrawn numbers


def claim_run(page: memoryview, number: int) -> bool:
    """Begin a run, in the worker. Returns whether it may run; False: it is withdrawn.

    Args:
        page: the status page.
        number: number of the run.
    """
    _word.pack_into(page, _BEGUN_OFFSET, number)
    (last,) = _word.unpack_from(page, _LAST_OFFSET)  # first, because it is written last
    (first,) = _word.unpack_from(page, _FIRST_OFFSET)
    return not 0 < first <= number <= last


def withdraw_runs(page: memoryview, first: int, last: int, execute_barrier: Callable[[], bool]) -> int:
    """Withdraw runs that were sent, in the supervisor. Returns the number of the last run that the worker has begun: all later
    ones of these are withdrawn.

    Args:
        page: the status page.
        first, last: numbers of the runs. Those that were withdrawn before, and that the worker has not reached, are among them.
        execute_barrier: executes a memory barrier in this process and in the worker. Returns whether that was possible; if not,
            no run counts as withdrawn.
    """
    _word.pack_into(page, _FIRST_OFFSET, first)
    _word.pack_into(page, _LAST_OFFSET, last)
    if not execute_barrier():
        return last
    (begun,) = _word.unpack_from(page, _BEGUN_OFFSET)
    return begun
