"""Tools for those who write plugins and for those who test services that use a pool."""

from .inline import InlineTask, run_inline

__all__ = ["InlineTask", "run_inline"]
