"""Lists the files and directories that a worker has to read to import modules and to load libraries.

None of them is expected to hold a secret, except the directories of the program's own modules, which may.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from ...sandbox import loaded_code

__all__ = ["NETWORK_PATHS", "late_paths", "loading_paths"]

_LIBRARIES = (
    # libraries, and data of libraries: fonts, colour profiles, time zones
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/share",
    "/usr/local/lib", "/usr/local/lib64", "/usr/local/share", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
)  # fmt: skip
_SYSTEM = (
    "/etc/ld.so.cache", "/etc/fonts", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ssl/openssl.cnf",
    # the machine, which libraries look at to choose their code and their number of threads
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self", "/proc/sys", "/proc/filesystems",
    "/sys/devices/system", "/sys/fs/cgroup",
    "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
)  # fmt: skip
_INSTALLED = {"site-packages", "dist-packages"}  # names of directories of installed packages
_EDITABLE_FINDER = "__editable___"  # beginning of the names of setuptools' modules that map packages to directories

NETWORK_PATHS = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services",
    "/etc/ssl/certs", "/etc/pki/tls", "/etc/pki/ca-trust", "/etc/ca-certificates", *_LIBRARIES,
)  # fmt: skip
"""Files for finding hosts and for checking their certificates."""


def loading_paths() -> list[str]:
    """Returns paths without duplicates; some may not exist."""
    return list(dict.fromkeys(os.path.abspath(path) for path in _paths() if path))


def late_paths() -> list[str]:
    """Returns the paths that imports may read after the plugins are loaded: Python, installed packages, the system's libraries,
    and the packages and modules that are loaded. The directories that contain the program's own modules are not among them,
    because a program's settings may lie beside its code."""
    on_search_path = [path for path in sys.path if os.path.basename(path) in _INSTALLED or os.path.isfile(path)]
    return list(dict.fromkeys((*_LIBRARIES, *_SYSTEM, *_python(), *on_search_path, *loaded_code())))


def _paths() -> Iterator[str]:
    yield "/usr"
    yield from (*_LIBRARIES, *_SYSTEM)
    yield from (path or os.curdir for path in sys.path)
    yield from _python()
    yield from os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for name, module in list(sys.modules.items()):
        if name.startswith(_EDITABLE_FINDER):
            mapping: dict[str, str] = getattr(module, "MAPPING", {})
            yield from mapping.values()


def _python() -> Iterator[str]:
    yield from (sys.executable, getattr(sys, "_MEIPASS", ""))  # of a frozen program, which has its modules in them
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        yield os.path.join(prefix, "lib")  # libraries of packages of Conda
