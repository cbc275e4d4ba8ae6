"""The seccomp filter, run by an interpreter of BPF: every system call of both architectures gets the verdict of the table."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from offloop.sandbox import Needs
from offloop.worker.isolation.syscall_filter import Instruction, allowed_calls, build_filter
from offloop.worker.isolation.syscall_numbers import ARCHITECTURES, numbers_of

PID, LIFELINE = 4711, 901
ALLOWED, EPERM, ENOSYS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
ALL_NEEDS = Needs(read=("/data",), write=("/output",), modules=True, network=True)


def interpret(program: list[Instruction], machine: str, number: int, *arguments: int) -> int:
    """Run a BPF program on the data of a call. Returns its verdict."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<iIQ6Q", number, ARCHITECTURES.get(machine, 0x40000003), 0, *padded)
    accumulator, counter = 0, 0
    while True:
        operation, if_true, if_false, constant = program[counter]
        counter += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                accumulator &= constant
            case 0x15:
                counter += if_true if accumulator == constant else if_false
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"unknown operation {operation:#x}")


class Filter:
    """A filter of one architecture, and its table."""

    def __init__(self, needs: Needs, machine: str) -> None:
        self.machine = machine
        self.calls = allowed_calls(needs, PID, LIFELINE)
        self.program = build_filter(machine, self.calls)
        self.numbers = numbers_of(machine)

    def verdict(self, name: str, *arguments: int) -> int:
        return interpret(self.program, self.machine, self.numbers[name], *arguments)


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("needs", [Needs(), Needs(threads=False), Needs(read=("/data",)), ALL_NEEDS], ids=repr)
def test_every_call_gets_the_verdict_of_the_table(machine: str, needs: Needs) -> None:
    made = Filter(needs, machine)
    names = {number: name for name, number in made.numbers.items()}
    assert len(names) == len(made.numbers)
    for number in range(600):
        name = names.get(number, "")
        if name == "clone3":
            expected = ENOSYS
        elif made.calls.get(name) == ():
            expected = ALLOWED
        elif name in made.calls:
            continue  # depends on arguments, see below
        else:
            expected = EPERM
        assert interpret(made.program, machine, number) == expected, (number, name)


def test_a_call_of_another_architecture_fails(machine: str) -> None:
    made = Filter(ALL_NEEDS, machine)
    for number in range(600):
        assert interpret(made.program, "i386", number) == EPERM


def test_a_number_of_the_x32_interface_fails() -> None:
    made = Filter(ALL_NEEDS, "x86_64")
    assert interpret(made.program, "x86_64", 0x40000000 | made.numbers["read"]) == EPERM


THREAD = 0x3D0F00  # flags of pthread_create
CASES: list[tuple[str, tuple[int, ...], int]] = [
    ("kill", (PID, 9), ALLOWED),
    ("kill", (1, 9), EPERM),
    ("kill", (0, 9), EPERM),
    ("kill", ((1 << 32) - PID, 9), EPERM),  # the process group
    ("tgkill", (PID, 5000, 6), ALLOWED),
    ("tgkill", (1, 1, 6), EPERM),
    ("prlimit64", (0, 7), ALLOWED),
    ("prlimit64", (PID, 7), ALLOWED),
    ("prlimit64", (1, 7), EPERM),
    ("sched_setaffinity", (0,), ALLOWED),
    ("sched_setaffinity", (1,), EPERM),
    ("clone", (THREAD,), ALLOWED),
    ("clone", (17,), EPERM),  # fork
    ("clone", (0x4111,), EPERM),  # vfork
    ("clone", (THREAD | 0x20000,), EPERM),  # with a new mount namespace
    ("clone", (THREAD | 0x10000000,), EPERM),  # with a new user namespace
    ("close", (5,), ALLOWED),
    ("close", (LIFELINE,), EPERM),
    ("dup", (LIFELINE,), EPERM),
    ("dup", (1,), ALLOWED),
    ("dup3", (1, LIFELINE), EPERM),
    ("dup3", (LIFELINE, 7), EPERM),
    ("dup3", (1, 7), ALLOWED),
    ("fcntl", (LIFELINE, 4), EPERM),
    ("fcntl", (7, 4), ALLOWED),
    ("fcntl", (7, 1030), ALLOWED),
    ("fcntl", (7, 8), EPERM),  # F_SETOWN
    ("fcntl", (7, 10), EPERM),  # F_SETSIG
    ("fcntl", (7, 6), EPERM),  # F_SETLK
    ("ioctl", (7, 0x5401), ALLOWED),
    ("ioctl", (7, 0x5412), EPERM),  # TIOCSTI
    ("ioctl", (7, 0x5452), EPERM),  # FIOASYNC
    ("mmap", (0, 4096, 3, 0x22), ALLOWED),
    ("mmap", (0, 4096, 3, 0x01), ALLOWED),
    ("mmap", (0, 4096, 3, 0x21), EPERM),  # shared memory beside the limit
    ("mmap", (0, 4096, 3, 0x23), EPERM),
    ("madvise", (0, 4096, 4), ALLOWED),
    ("madvise", (0, 4096, 9), EPERM),  # MADV_REMOVE
    ("prctl", (15,), ALLOWED),
    ("prctl", (4, 1), EPERM),  # PR_SET_DUMPABLE
    ("prctl", (0x59616D61,), EPERM),  # PR_SET_PTRACER
    ("sendto", (900, 1, 1, 0, 0, 0), ALLOWED),
    ("sendto", (900, 1, 1, 0, 4096, 16), EPERM),
    ("sendto", (900, 1, 1, 0, 1 << 32, 16), EPERM),
    ("socketpair", (1, 1), ALLOWED),
    ("socketpair", (1, 0x80801), ALLOWED),  # with flags
    ("socketpair", (1, 2), EPERM),
    ("newfstatat", (7, 4096, 4096, 0x1000), ALLOWED),
    ("newfstatat", (7, 4096, 4096, 0), EPERM),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_an_argument_decides_about_a_call(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert Filter(Needs(), machine).verdict(name, *arguments) == expected


READ_ONLY, WRITE, CREATE, TRUNCATE = 0x80000, 0x80001, 0x80040, 0x80200
INTERNET, UNIX, NETLINK = 2, 1, 16


@pytest.mark.parametrize(
    ("needs", "name", "arguments", "expected"),
    [
        (Needs(read=("/data",)), "openat", (0, 4096, READ_ONLY), ALLOWED),
        (Needs(modules=True), "openat", (0, 4096, READ_ONLY), ALLOWED),
        (Needs(read=("/data",)), "openat", (0, 4096, WRITE), EPERM),
        (Needs(read=("/data",)), "openat", (0, 4096, CREATE), EPERM),
        (Needs(read=("/data",)), "openat", (0, 4096, TRUNCATE), EPERM),
        (Needs(write=("/data",)), "openat", (0, 4096, WRITE | CREATE | TRUNCATE), ALLOWED),
        (Needs(write=("/data",)), "fcntl", (7, 6), ALLOWED),
        (Needs(write=("/data",)), "fcntl", (LIFELINE, 6), EPERM),
        (Needs(network=True), "socket", (INTERNET,), ALLOWED),
        (Needs(network=True), "socket", (UNIX,), EPERM),
        (Needs(network=True), "socket", (NETLINK,), EPERM),
        (Needs(threads=False), "clone", (THREAD,), EPERM),
    ],
)
def test_a_need_opens_what_it_says(machine: str, needs: Needs, name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert Filter(needs, machine).verdict(name, *arguments) == expected


def test_the_dangerous_calls_are_in_no_table() -> None:
    forbidden = "fork vfork execve execveat ptrace process_vm_readv process_vm_writev memfd_create io_uring_setup bpf keyctl"
    forbidden += " userfaultfd mount pidfd_open pidfd_getfd setns unshare chroot setuid capset seccomp shmget bind listen"
    for machine in ARCHITECTURES:
        assert not set(forbidden.split()) & set(numbers_of(machine))


def test_an_unknown_architecture_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="riscv64"):
        build_filter("riscv64", {})


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    path = Path(HEADERS[machine])
    if not path.exists():
        pytest.skip(f"the kernel's headers for {machine} are not installed: {path}")
    defined = re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)\s*$", path.read_text(), re.MULTILINE)
    numbers = {name.replace("fstatat", "newfstatat") if name == "fstatat" else name: int(number) for name, number in defined}
    known = {name: number for name, number in numbers_of(machine).items() if name in numbers}
    assert len(known) > 140
    assert known == {name: numbers[name] for name in known}
