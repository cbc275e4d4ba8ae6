"""What a question consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

from suite.contenders import COMPILED, CONTENDERS, OFFLOOP, PACKAGES, Contender, Opened
from suite.peers import Peers

__all__ = ["Figure", "Goal", "Medians", "Question", "pools"]

Medians: TypeAlias = Mapping[str, Mapping[str, float]]
"""By contender and figure."""


class Figure(NamedTuple):
    """A number that is shown in a column."""

    key: str
    label: str
    digits: int = 1
    is_plotted: bool = False
    is_rate: bool = False  # more is better


class Goal(NamedTuple):
    """A number that offloop is expected to reach."""

    what: str
    limit: float
    measured: Callable[[Medians], float]
    """Computes the number. Raises KeyError if a contender or a figure is missing."""
    reason: str
    """What limits it, in a sentence, for the case that it is not reached."""
    is_least: bool = False  # more is better
    digits: int = 2

    def is_reached(self, value: float) -> bool:
        return value >= self.limit if self.is_least else value <= self.limit


def pools(peers: Peers, *others: str, is_quick: bool, without: Sequence[str] = ()) -> list[str]:
    """Returns the pools of Python that can run, and the `others`. A quick run without installed peers has two of the former."""
    absent = [*without, *(() if peers.compiled else (COMPILED,))]
    found = [name for name in CONTENDERS if PACKAGES.get(name, "") in ("", *peers.packages)]
    if is_quick and not peers.packages and peers.node_packages is None:
        found = [OFFLOOP, "ProcessPoolExecutor"]
    return [*(name for name in found if name not in absent), *others]


class Question:
    """One question of the suite. The parent process calls the first three methods, the process of a turn the others."""

    name: ClassVar[str]
    title: ClassVar[str]
    what: ClassVar[str]
    """Two sentences: what is measured, and why it matters."""
    expected: ClassVar[str]
    figures: ClassVar[tuple[Figure, ...]]
    goals: ClassVar[tuple[Goal, ...]] = ()
    floors: ClassVar[tuple[str, ...]] = ()
    """Contenders that are no peers, but show what the machine can do."""
    loop: ClassVar[str] = "uvloop"
    rounds: ClassVar[int] = 3
    has_compiled: ClassVar[bool] = False
    """Whether an offloop that is compiled is a contender."""

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        raise NotImplementedError

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        """Returns what a turn needs beside its contender, and makes its files."""
        raise NotImplementedError

    def check(self, turns: Mapping[str, Mapping[str, float]]) -> None:
        """Compare the figures of the contenders of one round. Raises ValueError if one of them cannot be right."""

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        return contenders[name](job["workers"])

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        """Bring every worker to the state in which it stays."""
        raise NotImplementedError

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        """Returns the figures of one turn. Raises AssertionError if a result is wrong."""
        raise NotImplementedError
