"""What a question consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from suite.contenders import COMPILED, CONTENDERS, OFFLOOP, PACKAGES, Contender, Opened
from suite.peers import Peers

__all__ = ["Figure", "Question", "pools"]


class Figure(NamedTuple):
    """A number that is shown in a column."""

    key: str
    label: str
    digits: int = 1
    is_plotted: bool = False
    is_rate: bool = False  # more is better


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
