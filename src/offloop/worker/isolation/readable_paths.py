"""Lists the files and directories that a worker has to read to import modules and to load libraries.

None of them is expected to hold a secret, except the directories of the program's own modules, which may.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

__all__ = ["NETWORK_PATHS", "loading_paths"]

_SYSTEM = (
    # libraries, and data of libraries: fonts, colour profiles, time zones
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/fonts", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ssl/openssl.cnf",
    # the machine, which libraries look at to choose their code and their number of threads
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self", "/proc/sys", "/proc/filesystems",
    "/sys/devices/system", "/sys/fs/cgroup",
    "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
)  # fmt: skip
_EDITABLE_FINDER = "__editable___"  # beginning of the names of setuptools' modules that map packages to directories

NETWORK_PATHS = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services",
    "/etc/ssl/certs", "/etc/pki/tls", "/etc/pki/ca-trust", "/etc/ca-certificates", "/usr",
)  # fmt: skip
"""Files for finding hosts and for checking their certificates."""


def loading_paths() -> list[str]:
    """Returns paths without duplicates; some may not exist."""
    return list(dict.fromkeys(os.path.abspath(path) for path in _paths() if path))


def _paths() -> Iterator[str]:
    yield from _SYSTEM
    yield from (path or os.curdir for path in sys.path)
    yield from (sys.executable, getattr(sys, "_MEIPASS", ""))  # of a frozen program, which has its modules in them
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        yield os.path.join(prefix, "lib")  # libraries of packages of Conda
    yield from os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for name, module in list(sys.modules.items()):
        if name.startswith(_EDITABLE_FINDER):
            mapping: dict[str, str] = getattr(module, "MAPPING", {})
            yield from mapping.values()
