"""Test tools for plugins, and for services that use a pool: fakes, fault injection, checks for leaks, pytest fixtures.

Names are imported on first use, because workers import the faults plugin from here and must not load the server's modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import FakeClock
    from .conformance import PictureConformance, PictureSubject, ProcessorConformance, ProcessorSubject
    from .inline import InlineTask, run_inline
    from .leftovers import Surroundings, assert_books_balance, assert_nothing_left
    from .orders import Fault, Order, OrderError, Point
    from .pools import pool_with, scripted_pool
    from .scripted import ScriptedTask, ScriptedWorker
    from .starts import FaultyStarts, FaultyWorkers, UnkillableWorkers
    from .steps import Answer, Die, Refuse, Send, Stall
    from .transport import Traffic, Transport

_NAMES_BY_MODULE = {
    "clock": ("FakeClock",),
    "conformance": ("PictureConformance", "PictureSubject", "ProcessorConformance", "ProcessorSubject"),
    "inline": ("InlineTask", "run_inline"),
    "leftovers": ("Surroundings", "assert_books_balance", "assert_nothing_left"),
    "orders": ("Fault", "Order", "OrderError", "Point"),
    "pools": ("pool_with", "scripted_pool"),
    "scripted": ("ScriptedTask", "ScriptedWorker"),
    "starts": ("FaultyStarts", "FaultyWorkers", "UnkillableWorkers"),
    "steps": ("Answer", "Die", "Refuse", "Send", "Stall"),
    "transport": ("Traffic", "Transport"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "Answer",
    "Die",
    "FakeClock",
    "Fault",
    "FaultyStarts",
    "FaultyWorkers",
    "InlineTask",
    "Order",
    "OrderError",
    "PictureConformance",
    "PictureSubject",
    "Point",
    "ProcessorConformance",
    "ProcessorSubject",
    "Refuse",
    "ScriptedTask",
    "ScriptedWorker",
    "Send",
    "Stall",
    "Surroundings",
    "Traffic",
    "Transport",
    "UnkillableWorkers",
    "assert_books_balance",
    "assert_nothing_left",
    "pool_with",
    "run_inline",
    "scripted_pool",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
