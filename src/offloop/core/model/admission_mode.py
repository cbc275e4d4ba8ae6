"""What the memory budget means for tasks."""

from __future__ import annotations

from enum import Enum

__all__ = ["AdmissionMode"]


class AdmissionMode(Enum):
    """Whether tasks wait for memory."""

    ENFORCE = "enforce"  # they wait, or are refused
    SHADOW = "shadow"  # it is only counted how many would have
    OFF = "off"
