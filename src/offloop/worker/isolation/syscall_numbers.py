"""Numbers of the system calls that the filter allows, on each architecture that it supports.

The numbers are part of the kernel's interface and never change. A test compares them with the headers of the kernel.
"""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["ALWAYS", "ARCHITECTURES", "CHECKED", "NETWORK", "READING", "WRITING", "Numbers", "numbers_of"]

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Architecture -> its number in seccomp's data (AUDIT_ARCH)."""

Numbers: TypeAlias = dict[str, tuple[int, int | None]]
"""Call -> its numbers on x86_64 and on aarch64; None: there is no such call."""

ALWAYS: Numbers = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd2": (290, 19),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "getsockopt": (55, 209),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "brk": (12, 214),
    "mincore": (27, 232),
    "msync": (26, 227),
    "membarrier": (324, 283),
    "get_mempolicy": (239, 236),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "arch_prctl": (158, None),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "sched_rr_get_interval": (148, 127),
    "getcpu": (309, 168),
    "sched_getattr": (315, 275),
    "getpriority": (140, 141),
    "gettid": (186, 178),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "times": (100, 153),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "pause": (34, None),
    "getrlimit": (97, 163),
    "getcwd": (79, 17),
}
"""Calls that every worker may make."""

CHECKED: Numbers = {
    "newfstatat": (262, 79),
    "close": (3, 57),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "sendto": (44, 206),
    "socketpair": (53, 199),
    "mmap": (9, 222),
    "madvise": (28, 233),
    "clone": (56, 220),
    "clone3": (435, 435),
    "prctl": (157, 167),
    "sched_setaffinity": (203, 122),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "open": (2, None),
    "openat": (257, 56),
    "socket": (41, 198),
}
"""Calls that depend on their arguments."""

READING: Numbers = {
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
    "fadvise64": (221, 223),
    "readahead": (187, 213),
}
"""Calls of plugins that read files. Landlock decides which files."""

WRITING: Numbers = {
    "umask": (95, 166),
    "flock": (73, 32),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rmdir": (84, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "creat": (85, None),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "fchmod": (91, 52),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
    "sync_file_range": (277, 84),
}
"""Calls of plugins that write files. Landlock decides which files."""

NETWORK: Numbers = {
    "connect": (42, 203),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "recvmmsg": (299, 243),
    "setsockopt": (54, 208),
    "shutdown": (48, 210),
}
"""Calls of plugins that connect to other hosts."""


def numbers_of(machine: str) -> dict[str, int]:
    """Returns the number of each call on an architecture, by name.

    Raises:
        KeyError: the architecture is not supported.
    """
    if machine not in ARCHITECTURES:
        raise KeyError(machine)
    column = list(ARCHITECTURES).index(machine)
    calls = ALWAYS | CHECKED | READING | WRITING | NETWORK
    return {name: number for name, numbers in calls.items() if (number := numbers[column]) is not None}
