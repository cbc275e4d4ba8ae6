"""Command line and environment of worker processes.

A worker imports the same modules as the server, under the same interpreter flags. It is started with the flags of the server's
interpreter, and gets the server's `sys.path` as arguments, because a program may have changed `sys.path` since its start (a
zipapp, PEX, its own code). A frozen program has no interpreter to start. It starts itself if it calls
`offloop.freeze_support()`, or else the interpreter that `Pool(executable=...)` names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from ...wire.start import START_MARK, WORKER_ARGUMENT, WORKER_ID

__all__ = ["DEFAULT_ENVIRONMENT", "WorkerProgram"]

_FLAGS = ("-P", "-X", "faulthandler", "-c")
_SET_PATH = "import sys; sys.path[:] = sys.argv[5:]; "

_ALLOCATOR = {
    # Larger blocks are mapped separately, and unmapped when they are freed. Smaller ones are used again, because the page
    # faults of a new mapping take up to four times as long as a computation with numpy. A threshold that is set stays as it
    # is: by default glibc raises it up to 32 MiB.
    "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
    # Free bytes at the end of the heap above which it shrinks: the noise that the cost model expects in a peak.
    "MALLOC_TRIM_THRESHOLD_": str(16 * 1024 * 1024),
    # One heap for all threads, because the memory at the end of another thread's heap does not go back while a worker is idle.
    "MALLOC_ARENA_MAX": "1",
}
_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
DEFAULT_ENVIRONMENT: Mapping[str, str] = {**_ALLOCATOR, **dict.fromkeys(_THREAD_COUNTS, "1")}
"""Variables of workers that the server's environment does not set. Each library gets one thread, because each worker is one of
many; a processor raises the number for a task that may use more (`Task.threads`)."""


_INHERITED = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR", "VIRTUAL_ENV", "GLIBC_TUNABLES", "SSL_CERT_FILE",
              "SSL_CERT_DIR", "_MEIPASS2", *_THREAD_COUNTS}  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "LD_", "PYTHON", "MALLOC_", "OMP_", "KMP_", "GOMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMBA_",
                       "NUMEXPR_", "VIPS_", "ORT_", "CUDA_", "NVIDIA_", "FONTCONFIG_", "_PYI_", "NIX_PYTHON")  # fmt: skip


def _allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of Python, of libraries and of the language, and no others, because servers keep secrets in theirs."""
    return {name: value for name, value in variables.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)}


class WorkerProgram(msgspec.Struct, frozen=True):
    """Interpreter and environment of worker processes."""

    executable: tuple[str, ...] | None = None
    """A Python interpreter and its first arguments. None: this program's own."""

    environment: Mapping[str, str | None] = {}
    """Variables in addition to the inherited ones and `DEFAULT_ENVIRONMENT`; None removes one."""

    prefix: tuple[str, ...] = ()
    """A program that starts the worker, and its first arguments: ("bwrap", ...). It must pass descriptors on."""

    inherits: bool = False
    """Whether the server's whole environment is inherited. False: variables of Python, libraries and language only."""

    frozen: bool = False
    """Whether `sys.executable` is a frozen program and not an interpreter."""

    module: str = "offloop.worker.main"
    """Module whose `run_from_command_line` the interpreter calls. A frozen program that starts itself ignores it."""

    def command(self, descriptors: Sequence[int]) -> list[str]:
        """The command line of a worker that inherits these descriptors."""
        return [*self.prefix, *self._command(list(map(str, descriptors)))]

    def _command(self, numbers: list[str]) -> list[str]:
        executable = self.executable or (sys.executable,)
        if not self.frozen:
            return [*executable, *_interpreter_flags(), *_FLAGS, _SET_PATH + self._boot(), *numbers, *_import_path()]
        if self.executable is None:
            return [*executable, WORKER_ARGUMENT, *numbers]
        # without the flags and the path of a frozen program
        return [*executable, *_FLAGS, self._boot(), *numbers]

    def _boot(self) -> str:
        return f"from {self.module} import run_from_command_line; run_from_command_line()"

    def variables(self, worker_id: str) -> dict[str, str]:
        """The environment variables of the worker with this id."""
        variables = {**DEFAULT_ENVIRONMENT, **(os.environ if self.inherits else _allowed(os.environ))}
        for name, value in self.environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        return variables | {START_MARK: "1", WORKER_ID: worker_id}


def _interpreter_flags() -> list[str]:
    """The command-line flags of this interpreter: `-O`, `-X`, `-W`, `-I` and similar."""
    subprocess_module: Any = subprocess  # because its type stubs lack private functions
    flags: list[str] = subprocess_module._args_from_interpreter_flags()  # noqa: SLF001 (as multiprocessing does)
    given = {flag.partition("=")[0] for before, flag in pairwise(flags) if before == "-X"}
    options: dict[str, str | bool] = sys._xoptions  # noqa: SLF001 (there is no public access)
    for name, value in options.items():
        if name not in given and name != "faulthandler":  # faulthandler is in _FLAGS
            flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _import_path() -> list[str]:
    """The entries of `sys.path` that can be arguments. The import system ignores other entries, which programs may add."""
    given: list[object] = list(sys.path)
    return [entry for entry in given if isinstance(entry, str) and _can_be_argument(entry)]


def _can_be_argument(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
