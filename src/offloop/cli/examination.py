"""Collects what a pool could use on this machine: CPUs, memory, plugins. It starts no worker."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import msgspec

from ..errors import PluginError
from ..plugins import Registered, Registry
from ..settings import default_memory_limit
from ..system import available_cpus, available_memory
from .event_loop import name_of_loop
from .wording import one_line

__all__ = ["Cpus", "Examination", "Memory", "PluginFound", "Processes", "SharedMemory", "examine"]

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (file system of POSIX shared memory on Linux)
_LIBVIPS_TIMEOUT_S = 30.0
_PRINT_LIBVIPS_VERSION = (
    "import pyvips; print('.'.join(str(pyvips.version(part)) for part in range(3)), 'pyvips', pyvips.__version__)"
)


class Cpus(msgspec.Struct, frozen=True):
    """Numbers of CPUs: of the machine, and for this process."""

    usable: int  # CPUs that a pool can use, which is its default number of workers
    bound_by: str  # source of `usable`: affinity, or a cgroup's quota
    affinity: int  # CPUs on which this process may run
    host: int | None  # all CPUs of the machine; None: unknown


class Memory(msgspec.Struct, frozen=True):
    """Available memory, and the default limit of a pool."""

    available_bytes: int  # memory that this process may use
    available_from: str  # source of `available_bytes`
    pool_limit_bytes: int  # default memory_limit of a pool
    pool_limit_from: str  # source of `pool_limit_bytes`


class SharedMemory(msgspec.Struct, frozen=True):
    """Size of the file system of shared memory."""

    size_bytes: int
    free_bytes: int


class Processes(msgspec.Struct, frozen=True):
    """Features of the system for child processes."""

    pidfd: bool  # whether a process can wait for a child without a thread and signal it without a race for its pid
    max_descriptors: int  # limit of open files of one process


class PluginFound(msgspec.Struct, frozen=True):
    """An installed plugin that passed the checks."""

    name: str
    distribution: str | None  # name and version of its distribution; None: unknown
    operations: list[str]  # names of its operations
    group: str | None = None  # name of the worker group of its own; None: the default group


class PluginRefused(msgspec.Struct, frozen=True):
    """An installed plugin that cannot be used."""

    name: str
    distribution: str | None  # name and version of its distribution; None: unknown
    reason: str  # reason why it was refused, in one line


class Examination(msgspec.Struct, frozen=True):
    """Everything that a pool could use on this machine."""

    offloop: str  # version of offloop
    compiled: bool  # whether `offloop.core` is compiled to machine code
    python: str  # implementation and version of Python
    platform: str  # operating system and its version
    event_loop: str  # name and version of the commands' event loop
    cpus: Cpus
    memory: Memory
    shared_memory: SharedMemory | None  # None: the system has no /dev/shm
    processes: Processes
    plugins: list[PluginFound]
    refused: list[PluginRefused]
    libvips: str | None  # versions of libvips and pyvips; None: the plugin "vips" is missing, or libvips cannot be loaded
    libvips_error: str | None  # reason why libvips cannot be loaded; None: it can, or the plugin "vips" is missing


def examine() -> Examination:
    """Collect everything that a pool could use on this machine."""
    registry = Registry()
    libvips, libvips_error = _libvips() if "vips" in registry.plugins else (None, None)
    return Examination(
        offloop=version("offloop"),
        compiled=_is_compiled(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        event_loop=name_of_loop(),
        cpus=_cpus(),
        memory=_memory(),
        shared_memory=_shared_memory(),
        processes=Processes(_has_pidfd(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        plugins=[_found(registered) for registered in registry.plugins.values()],
        refused=[_refused(error) for error in registry.refused],
        libvips=libvips,
        libvips_error=libvips_error,
    )


def _is_compiled() -> bool:
    core = find_spec("offloop.core.pool_state")
    return core is not None and not str(core.origin).endswith(".py")


def _cpus() -> Cpus:
    usable = available_cpus()
    affinity = len(os.sched_getaffinity(0))
    return Cpus(usable.value, usable.source, affinity, os.cpu_count())


def _memory() -> Memory:
    available, limit = available_memory(), default_memory_limit()
    return Memory(available.value, available.source, limit.value, limit.source)


def _shared_memory() -> SharedMemory | None:
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    return SharedMemory(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def _has_pidfd() -> bool:
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a container whose seccomp filter refuses the call
        return False
    return True


def _found(registered: Registered) -> PluginFound:
    operations = [operation.__name__ for operation in registered.plugin.operations]
    return PluginFound(registered.plugin.name, registered.candidate.distribution, operations, registered.plugin.group)


def _refused(error: PluginError) -> PluginRefused:
    return PluginRefused(error.plugin, error.distribution, " ".join(error.reason.split()))


def _libvips() -> tuple[str | None, str | None]:
    """Returns the version of libvips, or the reason why it cannot be loaded. Runs in a child process, because only workers load
    libvips."""
    command = [sys.executable, "-P", "-c", _PRINT_LIBVIPS_VERSION]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_LIBVIPS_TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        last_line = str(error.stderr).strip().splitlines()[-1:]
        return None, " ".join(last_line) or f"exited with code {error.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, one_line(error)
    return answer.stdout.strip(), None
