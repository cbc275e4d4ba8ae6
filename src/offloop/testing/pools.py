"""Real pools with fake workers: scripted workers, or workers of another launcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pool import Pool
from ..runtime.workers.launcher import Launcher
from .scripted import Script, ScriptLauncher
from .steps import Step

__all__ = ["pool_with", "scripted_pool"]


def pool_with(launcher: Launcher, workers: int | None = None, **settings: Any) -> Pool:
    """Returns a pool that is not entered and starts its workers with `launcher`, such as a `Transport`.

    Args:
        launcher: a `runtime.workers.launcher.Launcher`. It is called for each start of a worker, in a thread.
        workers, settings: arguments of `Pool`.
    """
    pool = Pool(workers, **settings)
    pool._launcher = launcher  # noqa: SLF001 (because the launcher is not a public setting of `Pool`)
    return pool


def scripted_pool(script: Script, *, workers: int = 1, starts: Sequence[Step | None] = (), **settings: Any) -> Pool:
    """Returns a pool that is not entered and whose workers are threads that follow a script. For tests of a service without
    processes.

        async with scripted_pool([Answer(b"a picture", {"width": 40}), Refuse("corrupt_source"), Die(-9)]) as pool: ...

    Queue, time-outs, memory, errors and statistics are those of a real pool.

    Args:
        script: a step for each task, in the order in which workers start them (any further task is a `TaskFailed` with the code
            "script_over"); or a function that gets a `ScriptedTask` and returns a step, called in a worker's thread.
        workers: number of workers.
        starts: a step for each of the first workers (`Die`, `Stall` or `Send`), which it does instead of becoming ready. None:
            the worker becomes ready.
        settings: arguments of `Pool`. The pool needs the plugins of the operations in its pipelines.
    """
    return pool_with(ScriptLauncher(script, starts), workers, **settings)
