"""Errors that only a cluster has. Each is an `OffloopError`, and every other error is that of `Pool`."""

from __future__ import annotations

from collections.abc import Mapping

from offloop.errors import OffloopError, WorkerDied

__all__ = ["NodeDied", "SchedulerLost", "VersionMismatch"]


class NodeDied(WorkerDied):
    """The node that had the task died, left the cluster, or was cut off from this client. Other nodes go on."""

    def __init__(self, node: str, address: str, reason: str) -> None:
        self.node = node  # name of the dask worker
        self.address = address  # its address, as "tcp://host:port"
        super().__init__(None, reason=f"its node {node} ({address}) is gone: {reason}")

    @property
    def public_message(self) -> str:
        """A sentence without the name and the address of the node."""
        return "the machine that had the task died"


class SchedulerLost(OffloopError, ConnectionError):
    """The scheduler cannot be reached, or has forgotten the task. The pool connects again by itself; submit the task again."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address  # address of the scheduler
        self.reason = reason  # what was noticed
        super().__init__(f"the scheduler {address} is lost: {reason}")

    @property
    def public_message(self) -> str:
        return "the service is not available at the moment"


class VersionMismatch(OffloopError):
    """A node has another version of offloop or of a plugin than this client, so that they could misunderstand each other."""

    def __init__(self, node: str, versions: Mapping[str, tuple[str, str | None]]) -> None:
        self.node = node  # name of the dask worker
        self.versions = dict(versions)  # (version here, version there or None) by name
        found = "; ".join(f"{name}: {here} here, {there or 'none'} there" for name, (here, there) in self.versions.items())
        super().__init__(f"the node {node} has other versions ({found}): install the same ones on both sides")

    @property
    def public_message(self) -> str:
        return "the service is not available at the moment"
