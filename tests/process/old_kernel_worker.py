"""A worker whose kernel seems to be older than it is: the variables say how old."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from offloop.worker import main
from offloop.worker.isolation.kernel import Kernel

MAX_ABI = "OFFLOOP_TEST_MAX_LANDLOCK_ABI"
MACHINE = "OFFLOOP_TEST_MACHINE"
NO_SECCOMP = "OFFLOOP_TEST_NO_SECCOMP"


class OldKernel(Kernel):
    """A kernel with at most this version of Landlock, which refuses what came later."""

    _sizes = ((0, 0), (1, 8), (4, 16), (6, 24))  # first ABI with a size of the attributes in bytes

    @property
    def machine(self) -> str:
        return os.environ.get(MACHINE) or super().machine

    def landlock_abi(self) -> int:
        abi = int(os.environ.get(MAX_ABI, "99"))
        if abi == 0:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return min(abi, super().landlock_abi())

    def create_ruleset(self, attributes: bytes) -> int:
        if len(attributes) > max(size for abi, size in self._sizes if abi <= self.landlock_abi()):
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return super().create_ruleset(attributes)

    def install_filter(self, program: Sequence[tuple[int, int, int, int]]) -> None:
        if os.environ.get(NO_SECCOMP):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().install_filter(program)


def run_from_command_line() -> None:
    main.run_from_command_line(kernel=OldKernel())
