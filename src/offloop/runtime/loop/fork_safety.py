"""Replaces the pool's descriptors in forked children of the server.

A forked child inherits every descriptor. A second holder of a lifeline would keep workers alive after their server. An epoll
descriptor is shared with the parent, so a child that unregisters descriptors would make the parent miss their events. So the
child, before it runs any other Python code, replaces each protected descriptor by /dev/null under the same number: closing the
number later harms nothing. It also replaces the poller, by /dev/null or by an empty one, because a child that reads the loop's
wake-up pipe would steal the parent's wake-ups.

Programs that the server starts with exec are not affected, because all these descriptors are closed on exec.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from contextlib import suppress
from typing import Protocol

from .affinity import LoopAffinity

__all__ = ["close", "fd_lock", "generation", "protect", "register", "unprotect"]


class _ForkAware(Protocol):
    @property
    def affinity(self) -> LoopAffinity: ...

    def forked(self) -> None:
        """Called in a forked child of the process that made the object. Only the current thread exists there."""
        ...


fd_lock = threading.RLock()
"""Held while descriptors are opened and protected, or unprotected and closed, so that no fork comes between."""

_protected: set[int] = set()
_registered: weakref.WeakSet[_ForkAware] = weakref.WeakSet()
_generation = 0  # number of forks between the first process and this one


def generation() -> int:
    """A number that differs between a forked child and its parent. Much cheaper than `os.getpid()`."""
    return _generation


def protect(*descriptors: int) -> None:
    """Register descriptors that are replaced in forked children."""
    with fd_lock:
        _protected.update(descriptors)


def unprotect(*descriptors: int) -> None:
    """Unregister descriptors that are about to be closed. The caller holds `fd_lock` until they are closed."""
    _protected.difference_update(descriptors)


def close(descriptor: int) -> None:
    """Unprotect and close a descriptor."""
    with fd_lock:
        unprotect(descriptor)
        os.close(descriptor)


def register(owner: _ForkAware) -> None:
    """Call `owner.forked()` in every forked child, as long as the owner exists."""
    with fd_lock:
        _registered.add(owner)


def _in_child() -> None:
    global _generation
    _generation += 1
    for poller in _pollers():
        _replace_poller(poller)
    _replace_protected()
    try:
        for object_ in list(_registered):
            object_.forked()
    finally:
        _registered.clear()
        fd_lock.release()


def _replace_protected() -> None:
    null_fd = -1
    with suppress(OSError):
        null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in _protected:
        with suppress(OSError):
            if null_fd < 0:
                os.close(descriptor)  # no free descriptor for /dev/null: an unused number is the next best
            else:
                os.dup2(null_fd, descriptor, inheritable=False)
    _protected.clear()
    if null_fd >= 0:
        os.close(null_fd)


def _pollers() -> list[int]:
    """The epoll descriptors that watch protected descriptors: those of all event loops with a pool, of any library."""
    found: list[int] = []
    if _protected:
        with suppress(OSError):  # no /proc in this container
            found = [int(name) for name in os.listdir("/proc/self/fd")]
    return [descriptor for descriptor in found if not _protected.isdisjoint(_watched_by(descriptor))]


def _watched_by(poller: int) -> set[int]:
    """The descriptors that an epoll descriptor watches; empty for any other descriptor."""
    with suppress(OSError):
        if os.readlink(f"/proc/self/fd/{poller}") == "anon_inode:[eventpoll]":
            with open(f"/proc/self/fdinfo/{poller}") as lines:
                return {int(words[1]) for words in map(str.split, lines) if words[0] == "tfd:"}
    return set()


def _replace_poller(poller: int) -> None:
    """Replace an epoll descriptor that is shared with the parent.

    asyncio and uvloop loops end normally with an empty one. A trio loop would wait for its wake-up for ever, so it gets
    /dev/null, and stops with an error when it polls.
    """
    if any(object_.affinity.loop is None for object_ in _registered):
        _protected.add(poller)
        return
    with suppress(OSError), select.epoll() as empty:
        os.dup2(empty.fileno(), poller, inheritable=False)


os.register_at_fork(before=fd_lock.acquire, after_in_parent=fd_lock.release, after_in_child=_in_child)
