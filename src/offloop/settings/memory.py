"""Memory of a pool: its default limit, and what shared memory can hold on this machine."""

from __future__ import annotations

import logging

from ..core.memory.allocator import pages
from ..system import Amount, address_limit, available_memory, free_shared_memory

__all__ = ["INBOX_SHARE", "MIN_MEMORY_LIMIT", "default_memory_limit", "inbox_addresses", "shared_memory_capacity"]

_log = logging.getLogger("offloop.settings")

INBOX_SHARE = 0.75  # share of the arena, so that sources never take the memory that results need
MIN_MEMORY_LIMIT = 1024 * 1024  # bytes
_MEMORY_SHARE = 0.5  # share of available memory for the pool; the rest is for the server
_SHARED_MEMORY_SHARE = 0.9  # share of free /dev/shm, because other programs use it, too
_INBOX_ADDRESSES_FACTOR = 16  # times the inbox's capacity: so many streams without a `max_bytes` fit at once
_MIN_INBOX_ADDRESSES = 64 * 1024**3  # bytes
_MAX_INBOX_ADDRESSES = 8 * 1024**4  # bytes: an eighth of a process's address space


def default_memory_limit() -> Amount:
    """Default `memory_limit` in bytes, and its origin: half of the memory that the process may use."""
    memory = available_memory()
    return Amount(max(int(memory.value * _MEMORY_SHARE), MIN_MEMORY_LIMIT), f"half of {memory.source}")


def inbox_addresses(inbox_nbytes: int) -> int:
    """Bytes of the inbox's address range: many times its capacity, because a stream keeps the addresses of its `max_bytes`."""
    addresses = min(max(inbox_nbytes * _INBOX_ADDRESSES_FACTOR, _MIN_INBOX_ADDRESSES), _MAX_INBOX_ADDRESSES)
    limit = address_limit()
    if limit is not None:
        addresses = min(addresses, limit // 4)
    return max(pages(addresses), inbox_nbytes)


def shared_memory_capacity(asked: int, *, is_default: bool) -> tuple[int, str]:
    """The bytes that sources and results may take, bounded by free /dev/shm; and the reason for the number.

    A `memory_limit` of the user that cannot be met is logged as a warning, a default one as info.
    """
    level = logging.INFO if is_default else logging.WARNING
    memory = available_memory()
    if asked > memory.value:
        bound = f"memory_limit is {asked:,} bytes, but this process may use {memory.value:,}"
        _log.log(level, "%s: %s", bound, memory.source)
    shared = free_shared_memory()
    capacity = asked if shared is None else max(int(shared.value * _SHARED_MEMORY_SHARE), MIN_MEMORY_LIMIT)
    if shared is None or capacity >= asked:
        return asked, "memory_limit"
    bound = f"memory_limit is {asked:,} bytes, but sources and results have {capacity:,}"
    _log.log(level, "%s: nine tenths of what is free in /dev/shm (in Docker: --shm-size)", bound)
    return capacity, f"what was {shared.source} when the pool was entered"
