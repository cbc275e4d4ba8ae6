"""Real pools with other workers: scripted ones, or processes behind a bad line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pool import Pool
from ..runtime.workers.launcher import Launcher
from .scripted import Script, ScriptLauncher
from .steps import Step

__all__ = ["pool_with", "scripted_pool"]


def pool_with(launcher: Launcher, workers: int | None = None, **settings: Any) -> Pool:
    """Return a pool, not entered yet, with its own launcher of workers, such as a `Transport` (`runtime.workers.launcher`).

    Args:
        launcher: is called for each start, in a thread.
        workers, settings: as `Pool` takes them.
    """
    pool = Pool(workers, **settings)
    pool._launcher = launcher  # noqa: SLF001 (the one door: users of a pool have no business with it)
    return pool


def scripted_pool(script: Script, *, workers: int = 1, starts: Sequence[Step | None] = (), **settings: Any) -> Pool:
    """A pool, not entered yet, whose workers are threads that follow a script: for tests of a service, without processes.

        async with scripted_pool([Answer(b"a picture", {"width": 40}), Refuse("corrupt_source"), Die(-9)]) as pool: ...

    All else is real: queue, time-outs, memory, errors, statistics.

    Args:
        script: one step for each task, in the order in which workers take them up (one more is `TaskFailed` with the code
            "script_over"); or a function from a `ScriptedTask` to a step, called in a worker's thread.
        workers: how many there are.
        starts: what the first workers do instead of becoming ready (`Die`, `Stall` or `Send`); None: become ready.
        settings: as `Pool` takes them. The pool needs the plugins of the operations that it is given.
    """
    return pool_with(ScriptLauncher(script, starts), workers, **settings)
