"""Control groups (cgroups) of this process, and the numbers in their files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["control_groups", "read_number"]


def control_groups(
    controller: str, *, listing: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """The directories of this process's cgroup for a controller, and of all its parents, which limit the process, too."""
    try:
        lines = listing.read_text().splitlines()
    except OSError:
        return []
    directories: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount
        leaf = root / path.lstrip("/")
        directories += [leaf, *(parent for parent in leaf.parents if parent.is_relative_to(root))]
    return directories


def read_number(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or if it has no number (such as "max")."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
