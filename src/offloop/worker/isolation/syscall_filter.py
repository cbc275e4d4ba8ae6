"""Makes the seccomp filter of a worker: a BPF program that allows listed system calls, some with conditions on arguments.

Every other call fails with EPERM and never ends the process, because libraries try calls that they can do without. `clone3`
fails with ENOSYS, because its arguments are in memory, where a filter cannot read them, and glibc then calls `clone`.
"""

from __future__ import annotations

import errno

import msgspec

from ...sandbox import Needs
from .syscall_numbers import ALWAYS, ARCHITECTURES, NETWORK, READING, WRITING, numbers_of

__all__ = ["Check", "Instruction", "allowed_calls", "build_filter"]

Instruction = tuple[int, int, int, int]
"""A BPF instruction: operation, jumps if true and if false, constant."""

_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06  # load a word, and with a constant, compare, return
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in seccomp's data
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000  # verdicts; the number of an error is added to the second one
_ALL_BITS = 0xFFFFFFFF


_WRITING_FLAGS = 0x3 | 0x40 | 0x200  # of open: write access, O_CREAT, O_TRUNC
_IS_EMPTY_PATH = 0x1000  # flag of newfstatat: it is about a descriptor
_SHARED, _ANONYMOUS = 0x01, 0x20  # flags of mmap
_HOLE, _POISON, _OFFLINE = 9, 100, 101  # advices that remove pages
_THREAD, _NAMESPACES = 0x10000, 0x7E020000  # flags of clone
_STREAM, _TYPE_BITS = 1, 0xF  # type of a socket without flags
_INTERNET = (2, 10)  # families IPv4 and IPv6
_DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 4, 1030, 1032)  # fcntl: duplicates, flags, size of a pipe; not the owner of signals
_LOCKS = (5, 6, 7, 36, 37, 38)  # fcntl: locks of files
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_PROCESS_OPTIONS = (3, 15, 16, 0x53564D41)  # prctl: read dumpable, set and read a thread's name, name a mapping


class Check(msgspec.Struct, frozen=True):
    """A condition on an argument of a call: its bits under the mask are one of the values; or none of them."""

    argument: int  # index from 0
    values: tuple[int, ...]
    mask: int = _ALL_BITS
    is_one: bool = True  # False: it must be none of the values
    word: int = 0  # 1: the upper half of a 64-bit argument

    def code(self) -> list[Instruction]:
        """Returns instructions that go on if the argument passes, and else return EPERM."""
        load = (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * self.argument + 4 * self.word)
        mask = [] if self.mask == _ALL_BITS else [(_AND, 0, 0, self.mask)]
        count, fail = len(self.values), (_RETURN, 0, 0, _FAIL | errno.EPERM)
        if self.is_one:
            compare = [(_JUMP_IF_EQUAL, count - index, 0, value) for index, value in enumerate(self.values)]
        else:  # a match jumps to the failure at the end, and the last comparison jumps over it
            compare = [
                (_JUMP_IF_EQUAL, count - index - 1, index == count - 1, value) for index, value in enumerate(self.values)
            ]
        return [load, *mask, *compare, fail]


def allowed_calls(needs: Needs, pid: int, lifeline_fd: int) -> dict[str, tuple[Check, ...]]:
    """Returns the allowed calls of a worker by name, with the conditions that must all be met.

    Args:
        needs: what the worker's plugins need.
        pid: the worker's process.
        lifeline_fd: the descriptor that ends the worker with its server, which can be neither closed nor changed.
    """
    not_lifeline = Check(0, (lifeline_fd,), is_one=False)
    own_process = Check(0, (pid,))
    calls: dict[str, tuple[Check, ...]] = dict.fromkeys(ALWAYS, ())
    calls |= dict.fromkeys(("close", "dup"), (not_lifeline,))
    calls |= dict.fromkeys(("dup2", "dup3"), (not_lifeline, Check(1, (lifeline_fd,), is_one=False)))
    calls |= {
        "fcntl": (not_lifeline, Check(1, _DESCRIPTOR_COMMANDS)),
        "ioctl": (not_lifeline, Check(1, _IOCTLS)),
        "newfstatat": (Check(3, (_IS_EMPTY_PATH,), mask=_IS_EMPTY_PATH),),
        "sendto": (Check(4, (0,)), Check(4, (0,), word=1)),  # no address, so it goes to the other end of a pair
        "socketpair": (Check(1, (_STREAM,), mask=_TYPE_BITS),),
        "mmap": (Check(3, (_SHARED | _ANONYMOUS,), mask=_SHARED | _ANONYMOUS, is_one=False),),  # RLIMIT_DATA ignores it
        "madvise": (Check(2, (_HOLE, _POISON, _OFFLINE), is_one=False),),
        "prctl": (Check(0, _PROCESS_OPTIONS),),
        "sched_setaffinity": (Check(0, (0, pid)),),
        "prlimit64": (Check(0, (0, pid)),),
        "kill": (own_process,),
        "tgkill": (own_process,),
    }
    if needs.threads:
        calls["clone"] = (Check(0, (_THREAD,), mask=_THREAD), Check(0, (0,), mask=_NAMESPACES))
    if needs.read or needs.write or needs.modules or needs.network:
        calls |= dict.fromkeys((*READING, "newfstatat"), ())
        calls["open"] = (Check(1, (0,), mask=_WRITING_FLAGS),)
        calls["openat"] = (Check(2, (0,), mask=_WRITING_FLAGS),)
    if needs.write:
        calls |= dict.fromkeys((*WRITING, "open", "openat"), ())
        calls["fcntl"] = (not_lifeline, Check(1, (*_DESCRIPTOR_COMMANDS, *_LOCKS)))
    if needs.network:
        calls |= dict.fromkeys((*NETWORK, "sendto"), ())
        calls["socket"] = (Check(0, _INTERNET),)
    return calls


def build_filter(machine: str, calls: dict[str, tuple[Check, ...]]) -> list[Instruction]:
    """Returns the BPF program of a filter.

    Raises:
        KeyError: offloop does not know the numbers of the calls on this architecture.
    """
    numbers = numbers_of(machine)
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for name, checks in calls.items():
        if name in numbers:
            body = [instruction for check in checks for instruction in check.code()] + [(_RETURN, 0, 0, _ALLOW)]
            program += [(_JUMP_IF_EQUAL, 0, len(body), numbers[name]), *body]
    program += [(_JUMP_IF_EQUAL, 0, 1, numbers["clone3"]), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)]
    return [*program, (_RETURN, 0, 0, _FAIL | errno.EPERM)]
