"""A plugin whose processor tries to leave its worker: what code would do that has taken over a decoder.

Each probe is a function that raises `OSError` if it is refused. A probe that would do harm has arguments with which an allowed
call fails in another way than a refused one; that counts as allowed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import json
import mmap
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Queue
from typing import Any, Literal

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext
from offloop.worker.segments import Segment

__all__ = ["PROBES", "SOURCE_OF_A_SIBLING", "CarelessPlugin", "Escape", "HostilePlugin"]

SERVER = os.getppid()
REFUSALS = {errno.EPERM, errno.EACCES}
SOURCE_OF_A_SIBLING = b"the source of another tenant's task"  # it waits in the server's memory
_X86 = os.uname().machine == "x86_64"
_libc = ctypes.CDLL(None, use_errno=True)


class Escape(Operation, frozen=True):
    """Try all probes in a thread: the task's own, a new one, or one that was started while the plugin was loaded. "loading":
    return what the probes of files and sockets gave while the plugin was loaded."""

    thread: Literal["main", "new", "old", "loading"] = "main"


class HostilePlugin(Plugin):
    name = "hostile"
    operations = (Escape,)
    processor = "hostile_plugin:HostileProcessor"


class CarelessPlugin(HostilePlugin):
    group = "careless"


def call(number_on_x86: int, number_on_arm: int, *arguments: int) -> None:
    """Make a system call with arguments that are no use to it. An error of its own counts as allowed."""
    if _libc.syscall(number_on_x86 if _X86 else number_on_arm, *arguments) >= 0:
        return
    if (code := ctypes.get_errno()) in REFUSALS:
        raise OSError(code, os.strerror(code))


def open_to_read(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def write_a_file() -> None:
    path = f"/tmp/offloop-escape-{os.getpid()}-{threading.get_ident()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def execute() -> None:
    with suppress(FileNotFoundError):  # the call was allowed
        os.execv("/nonexistent", ["nonexistent"])


def open_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def read_memory_of_the_server() -> None:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    here, there = Vector(ctypes.addressof(ctypes.create_string_buffer(8)), 8), Vector(4096, 8)
    if _libc.process_vm_readv(SERVER, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) < 0:
        code = ctypes.get_errno()
        if code in REFUSALS:
            raise OSError(code, os.strerror(code))


def share_memory_beside_the_limit() -> None:
    mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS).close()


def punch_a_hole() -> None:
    with mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        try:
            memory.madvise(mmap.MADV_REMOVE)
        except OSError as error:
            if error.errno in REFUSALS:
                raise


def shorten_a_file() -> None:
    try:
        os.ftruncate(2, 0)
    except OSError as error:
        if error.errno in REFUSALS:
            raise


def raise_a_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard + 1 if hard >= 0 else hard))
    except ValueError as error:  # how Python reports EPERM
        raise PermissionError(errno.EPERM, str(error)) from None


def keep_the_lifeline_from_killing() -> None:
    """Change the signal of each pipe, and then close it: the worker would outlive its server."""
    found = False
    for descriptor in range(3, 1100):
        try:
            if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                continue
        except OSError:
            continue
        found = True
        for change in (partial(fcntl.fcntl, descriptor, fcntl.F_SETFL, 0), partial(os.dup, descriptor)):
            try:
                change()
            except PermissionError:
                continue
            return  # the lifeline was changed
    if not found:
        raise AssertionError("there is no lifeline")
    raise PermissionError(errno.EPERM, "as it must be")


def inbox() -> Segment:
    """The segment with the sources of this worker's tasks."""
    return next(each for each in gc.get_objects() if type(each) is Segment and each.first_page.readonly)


def read_a_source_of_another_task() -> None:
    if SOURCE_OF_A_SIBLING not in ctypes.string_at(inbox().address, 1 << 20):
        raise PermissionError(errno.EACCES, "it is not there")


def change_a_source_of_another_task() -> None:
    if _libc.mprotect(ctypes.c_void_p(inbox().address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "it stays read-only")


def import_late() -> None:
    try:
        import this  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise PermissionError(errno.EACCES, str(error)) from None


FILES: dict[str, Callable[[], object]] = {
    "read /etc/passwd": lambda: open_to_read("/etc/passwd"),
    "read the server's memory in /proc": lambda: open_to_read(f"/proc/{SERVER}/mem"),
    "list the server's descriptors": lambda: os.listdir(f"/proc/{SERVER}/fd"),
    "read the server's environment": lambda: open_to_read(f"/proc/{SERVER}/environ"),
    "list /dev/shm": lambda: os.listdir("/dev/shm"),
    "list the home directory": lambda: os.listdir(os.path.expanduser("~")),
    "write a file": write_a_file,
}
PROBES: dict[str, Callable[[], object]] = {
    **FILES,
    "read a source of another task": read_a_source_of_another_task,
    "change a source of another task": change_a_source_of_another_task,
    "look for a file": lambda: os.stat("/etc/passwd"),
    "read its own memory in /proc": lambda: open_to_read("/proc/self/mem"),
    "import a module": import_late,
    "open a TCP socket": lambda: open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a UDP socket": lambda: open_socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a TCP socket of IPv6": lambda: open_socket(socket.AF_INET6, socket.SOCK_STREAM),
    "open a Unix socket": lambda: open_socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "open a netlink socket": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "fork": fork,
    "execute a program": execute,
    "trace the server": lambda: call(101, 117, 2, SERVER, 0, 0),  # PTRACE_PEEKDATA
    "read the server's memory": read_memory_of_the_server,
    "signal the server": lambda: os.kill(SERVER, 0),
    "signal its process group": lambda: os.kill(0, 0),
    "open a pidfd of the server": lambda: call(434, 434, SERVER, 0),
    "take a descriptor of the server": lambda: call(438, 438, -1, 0, 0),
    "read limits of the server": lambda: resource.prlimit(SERVER, resource.RLIMIT_NOFILE),
    "change the priority of the server": lambda: os.setpriority(os.PRIO_PROCESS, SERVER, 19),
    "move the server to another CPU": lambda: os.sched_setaffinity(SERVER, os.sched_getaffinity(SERVER)),
    "leave its process group": lambda: call(109, 154, -1, -1),
    "make a memory file": lambda: os.close(os.memfd_create("escape")),
    "share memory beside its limit": share_memory_beside_the_limit,
    "shorten a file": shorten_a_file,
    "punch a hole into memory": punch_a_hole,
    "allocate disk space": lambda: call(285, 47, -1, 0, 0, 0),
    "raise a limit": raise_a_limit,
    "change its user": lambda: os.setuid(os.getuid()),
    "gain capabilities": lambda: call(126, 91, 0, 0),
    "become dumpable": lambda: call(157, 167, 4, 0, 0, 0, 0),
    "keep the lifeline from killing": keep_the_lifeline_from_killing,
    "io_uring": lambda: call(425, 425, 1, 0),
    "userfaultfd": lambda: call(323, 282, 0xFFFF),
    "bpf": lambda: call(321, 280, -1, 0, 0),
    "keyctl": lambda: call(250, 219, -1, 0, 0),
    "perf_event_open": lambda: call(298, 241, 0, 0, -1, -1, 0),
    "mount": lambda: call(165, 40, 0, 0, 0, 0, 0),
    "unshare": lambda: call(272, 97, -1),
    "enter a namespace": lambda: call(308, 268, -1, 0),
    "change the root directory": lambda: call(161, 51, 0),
    "open a message queue": lambda: call(240, 180, 0, 0, 0, 0),
    "get System V shared memory": lambda: call(29, 194, 0, 0, 0),
    "process_madvise": lambda: call(440, 440, -1, 0, 0, 0, 0),
}


def attempt_all(probes: dict[str, Callable[[], object]]) -> dict[str, str]:
    return {name: attempt(probe) for name, probe in probes.items()}


def attempt(probe: Callable[[], object]) -> str:
    try:
        probe()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "allowed"


class HostileProcessor:
    def open(self, worker: WorkerContext) -> None:
        self._while_loading = attempt_all(FILES)
        self._questions: Queue[dict[str, Callable[[], object]]] = Queue()
        self._answers: Queue[dict[str, str]] = Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._answers.put(attempt_all(self._questions.get()))

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        (operation,) = operations
        assert isinstance(operation, Escape)
        found: dict[str, Any] = {}
        match operation.thread:
            case "main":
                found = attempt_all(PROBES)
            case "new":
                thread = threading.Thread(target=lambda: found.update(attempt_all(PROBES)))
                thread.start()
                thread.join()
            case "old":
                self._questions.put(PROBES)
                found = self._answers.get()
            case "loading":
                found = self._while_loading
        return Encoded(json.dumps(found).encode())
