"""What a fork of the server must not carry off.

A forked child has a copy of every descriptor. A lifeline in a second pair of hands would keep workers alive after their
server; a copy of the loop's poller is no copy at all, but the parent's own, and a child that tidies up would make the parent
deaf. So in a child, before it runs a line of its own, the descriptors that only the server may hold become /dev/null under the
same numbers: whoever closes them later closes nothing of anybody's. And so does the poller, or it becomes an empty one: a child
that listened to the loop's own wake-up pipe would take the parent's wake-ups out of it.

Programs that the server starts are another matter: everything here is closed on exec.
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


class _Forked(Protocol):
    @property
    def affinity(self) -> LoopAffinity: ...

    def forked(self) -> None:
        """This is a child of the process that made the object. No thread but this one is left."""
        ...


fd_lock = threading.RLock()
"""Held while descriptors come and go: no fork can come between a descriptor's making and the note of it."""

_protected: set[int] = set()
_watched: weakref.WeakSet[_Forked] = weakref.WeakSet()
_generation = 0  # forks between the first process and this one


def generation() -> int:
    """Another number in a forked child than in its parent; far cheaper than asking the system who we are."""
    return _generation


def protect(*descriptors: int) -> None:
    """No forked child may have these."""
    with fd_lock:
        _protected.update(descriptors)


def unprotect(*descriptors: int) -> None:
    """They are about to be closed; hold `undisturbed` until they are."""
    _protected.difference_update(descriptors)


def close(descriptor: int) -> None:
    """Close what was kept."""
    with fd_lock:
        unprotect(descriptor)
        os.close(descriptor)


def register(object_: _Forked) -> None:
    """Have its `forked` called in every forked child, for as long as it lives."""
    with fd_lock:
        _watched.add(object_)


def _in_child() -> None:
    global _generation
    _generation += 1
    for poller in _pollers():
        _replace_poller(poller)
    _replace_kept()
    try:
        for object_ in list(_watched):
            object_.forked()
    finally:
        _watched.clear()
        fd_lock.release()


def _replace_kept() -> None:
    nothing = -1
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in _protected:
        with suppress(OSError):
            if nothing < 0:
                os.close(descriptor)  # no descriptor to be had: better a number that is free
            else:
                os.dup2(nothing, descriptor, inheritable=False)
    _protected.clear()
    if nothing >= 0:
        os.close(nothing)


def _pollers() -> list[int]:
    """The epoll descriptors that watch what is kept: those of the loops that pools live in, whichever library made them."""
    found: list[int] = []
    if _protected:
        with suppress(OSError):  # this container has no /proc
            found = [int(name) for name in os.listdir("/proc/self/fd")]
    return [descriptor for descriptor in found if not _protected.isdisjoint(_watched_by(descriptor))]


def _watched_by(poller: int) -> set[int]:
    """What an epoll descriptor watches; nothing if it is something else."""
    with suppress(OSError):
        if os.readlink(f"/proc/self/fd/{poller}") == "anon_inode:[eventpoll]":
            with open(f"/proc/self/fdinfo/{poller}") as lines:
                return {int(words[1]) for words in map(str.split, lines) if words[0] == "tfd:"}
    return set()


def _replace_poller(poller: int) -> None:
    """Take the parent's poller out of this process's hands.

    asyncio's loop and uvloop's come to their end with an empty one. trio's would wait for a wake-up of its own for ever, and
    stops with an error when it cannot poll.
    """
    if any(object_.affinity.loop is None for object_ in _watched):
        _protected.add(poller)
        return
    with suppress(OSError), select.epoll() as empty:
        os.dup2(empty.fileno(), poller, inheritable=False)


os.register_at_fork(before=fd_lock.acquire, after_in_parent=fd_lock.release, after_in_child=_in_child)
