"""Finds and checks plugins, and groups a pipeline into stages. It imports no processor."""

from .discovery import Candidate, installed_plugins
from .grouping import group_plugins
from .planner import Plan, Planner
from .registry import Registered, Registry

__all__ = ["Candidate", "Plan", "Planner", "Registered", "Registry", "group_plugins", "installed_plugins"]
