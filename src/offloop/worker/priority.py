"""The worker's place behind the server when both want a processor."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["yield_to_server"]

_LEAST = 19


def yield_to_server(nice: int) -> None:
    """Be so much nicer than the server, from now on and with everything that is started from here.

    A worker has a session of its own, and where Linux groups processes by session (autogroup), niceness counts within a group
    only; so the group gets it too.
    """
    if not nice:
        return
    niceness = os.nice(nice)
    with suppress(OSError), open("/proc/self/autogroup", "w") as group:  # no such file: not Linux, or no autogroups
        group.write(str(min(niceness, _LEAST)))
