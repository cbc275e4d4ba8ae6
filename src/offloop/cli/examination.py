"""What this machine and this installation would give a pool: looked up, not tried."""

from __future__ import annotations

import os
import platform
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

__all__ = ["Examination", "PluginFound", "examine"]

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where POSIX shared memory lives on Linux)
_LIBVIPS_TIMEOUT_S = 30.0
_ASK_LIBVIPS = "import pyvips; print('.'.join(str(pyvips.version(part)) for part in range(3)), 'pyvips', pyvips.__version__)"


class Cpus(msgspec.Struct, frozen=True):
    """The CPUs of the host, and those that this process may use."""

    usable: int  # as many workers has a pool by default
    bound_by: str  # what makes it so few: affinity, or a cgroup's quota
    affinity: int  # those that this process may run on
    host: int | None  # all of them


class Memory(msgspec.Struct, frozen=True):
    """Memory, and the part of it that sources and results may take."""

    available_bytes: int
    available_from: str
    pool_limit_bytes: int  # a pool's default memory_limit
    pool_limit_from: str


class SharedMemory(msgspec.Struct, frozen=True):
    """The file system of shared memory."""

    size_bytes: int
    free_bytes: int


class Processes(msgspec.Struct, frozen=True):
    """What workers are held by."""

    pidfd: bool  # a death is heard of without a thread, and a pid is never mistaken


class PluginFound(msgspec.Struct, frozen=True):
    """A plugin that pools here have."""

    name: str
    distribution: str | None  # name and version
    operations: list[str]


class PluginRefused(msgspec.Struct, frozen=True):
    """A plugin that is installed and cannot be used."""

    name: str
    distribution: str | None
    reason: str


class Examination(msgspec.Struct, frozen=True):
    """All of it."""

    offloop: str
    compiled: bool  # whether what the server does for each task is machine code
    python: str
    platform: str
    event_loop: str
    cpus: Cpus
    memory: Memory
    shared_memory: SharedMemory | None  # None: the system has no such file system
    processes: Processes
    plugins: list[PluginFound]
    refused: list[PluginRefused]
    libvips: str | None  # its version and that of pyvips; None: not asked, or it cannot be loaded
    libvips_error: str | None


def examine() -> Examination:
    """Look everything up."""
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
        processes=Processes(pidfd=_has_pidfd()),
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
    except OSError:  # an old kernel, or a container whose filter does not know the call
        return False
    return True


def _found(registered: Registered) -> PluginFound:
    operations = [operation.__name__ for operation in registered.plugin.operations]
    return PluginFound(registered.plugin.name, registered.candidate.distribution, operations)


def _refused(error: PluginError) -> PluginRefused:
    return PluginRefused(error.plugin, error.distribution, " ".join(error.reason.split()))


def _libvips() -> tuple[str | None, str | None]:
    """libvips's version, or why it cannot be had. Asked in a process of its own: a supervisor never loads it, nor does this."""
    command = [sys.executable, "-P", "-c", _ASK_LIBVIPS]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_LIBVIPS_TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        last_words = str(error.stderr).strip().splitlines()[-1:]
        return None, " ".join(last_words) or f"exited with code {error.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, one_line(error)
    return answer.stdout.strip(), None
