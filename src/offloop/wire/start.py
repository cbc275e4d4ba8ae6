"""Environment variables and the argument with which a worker is started."""

from __future__ import annotations

__all__ = ["LOADING_MAIN_MODULE", "START_MARK", "WORKER_ARGUMENT", "WORKER_ID"]

START_MARK = "OFFLOOP_WORKER_START"
"""Environment variable of a process that is started as a worker. A worker removes it at its start. So if a program enters a
pool and has the variable, it was started to be a worker."""

LOADING_MAIN_MODULE = "main"
"""Value of `START_MARK` while a worker loads the main module of the server's program."""

WORKER_ID = "OFFLOOP_WORKER_ID"
"""Environment variable of a worker and of all processes that it starts: an id that no other worker has."""

WORKER_ARGUMENT = "--offloop-worker"
"""First argument of a frozen program that is started as a worker."""
