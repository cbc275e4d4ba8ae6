"""The sandbox of a worker: what code that has taken over a processor can reach.

It is set up in two steps, because loading plugins needs files that running tasks does not. `before_loading` lowers limits,
gives up privileges, and lets the worker read only code and libraries. `after_loading` lets it read only what the plugins need.
Then `filter_calls` allows only a list of system calls, in all threads. It comes last, because it forbids the other two.

A layer that the kernel refuses is missing in the posture that the worker reports. The supervisor decides whether it may run.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from ...sandbox import Layer, Needs, Posture, SandboxMode
from .kernel import Kernel
from .landlock import Landlock
from .late_imports import explain_refused_imports, import_lazy_modules, refuse_late_imports
from .privileges import drop_privileges, lower_limits
from .readable_paths import NETWORK_PATHS, late_paths, loading_paths
from .syscall_filter import Instruction, allowed_calls, build_filter

__all__ = ["Sandbox"]


class Sandbox:
    """The layers of one worker."""

    def __init__(self, mode: SandboxMode, needs: Needs, kernel: Kernel) -> None:
        self._mode: SandboxMode = mode
        self._needs = needs
        self._kernel = kernel
        self._missing: dict[Layer, str] = {}
        self._landlock: Landlock | None = None  # None: not used
        self._limits: dict[str, int] = {}

    def before_loading(self, max_file_nbytes: int | None) -> None:
        """Lower limits and privileges, and restrict the main thread to files that loading plugins needs.

        Args:
            max_file_nbytes: length that a file may have which the worker writes; None: no limit.
        """
        if self._mode == "off":
            return
        needs, kernel = self._needs, self._kernel
        with self._layer("limits"):
            self._limits = lower_limits(max_file_nbytes)
        with self._layer("privileges"):
            drop_privileges(kernel, can_read_any_file=True)
        with self._layer("landlock"):
            self._landlock = Landlock(kernel, network=needs.network)
            self._landlock.restrict((*loading_paths(), *needs.read, *self._network_paths()), needs.write)

    def after_loading(self) -> None:
        """Restrict this thread, and threads that it starts later, to what the plugins need."""
        if self._mode == "off":
            return
        needs = self._needs
        if not needs.modules:
            import_lazy_modules()
        with self._layer("landlock"):
            if self._landlock is not None:
                readable = (*needs.read, *self._network_paths(), *(late_paths() if needs.modules else ()))
                self._landlock.restrict(readable, needs.write)
        with self._layer("privileges"):
            drop_privileges(self._kernel, can_read_any_file=False)
        if needs.modules:
            explain_refused_imports()
        else:
            refuse_late_imports()

    def filter_calls(self, lifeline_fd: int) -> Posture:
        """Allow only the listed system calls, in all threads. Returns the posture of the worker."""
        filtered_calls = 0
        if self._mode != "off":
            calls = allowed_calls(self._needs, os.getpid(), lifeline_fd)
            with self._layer("seccomp"):
                self._install(build_filter(self._kernel.machine, calls))
                filtered_calls = len(calls)
        landlock = self._landlock
        return Posture(
            mode=self._mode,
            missing=self._missing,
            landlock_abi=0 if landlock is None else landlock.abi,
            landlock_scope=() if landlock is None or not landlock.stages else landlock.scope,
            landlock_stages=0 if landlock is None else landlock.stages,
            filtered_calls=filtered_calls,
            limits=self._limits,
            environment="inherited" if self._mode == "off" else "allow-list",
            needs=self._needs,
        )

    def _install(self, program: list[Instruction]) -> None:
        """Enforce the filter. The process is then undumpable, too; without a filter it may start processes, which the
        supervisor finds by their environment in /proc."""
        self._kernel.set_dumpable(dumpable=False)
        try:
            self._kernel.install_filter(program)
        except OSError:
            self._kernel.set_dumpable(dumpable=True)
            raise

    def _network_paths(self) -> tuple[str, ...]:
        return NETWORK_PATHS if self._needs.network else ()

    @contextmanager
    def _layer(self, name: Layer) -> Generator[None]:
        """Returns a context manager that notes an error in its block as the reason why the layer is missing."""
        try:
            yield
        except KeyError as error:
            self._missing[name] = f"there is no list of system calls for the architecture {error}"
        except (OSError, ValueError) as error:
            self._missing[name] = str(error)
