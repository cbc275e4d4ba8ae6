"""Words on the command line and in the environment with which a worker is started."""

from __future__ import annotations

__all__ = ["START_MARK", "WORKER_ARGUMENT", "WORKER_ID"]

START_MARK = "OFFLOOP_WORKER_START"
"""Environment variable of a process that is started as a worker. A worker removes it first of all, so a program that enters a
pool and has it was meant to be a worker."""

WORKER_ID = "OFFLOOP_WORKER_ID"
"""Environment variable of a worker and of all processes that it starts: a text that no other worker has."""

WORKER_ARGUMENT = "--offloop-worker"
"""First argument of a frozen program that is started as a worker."""
