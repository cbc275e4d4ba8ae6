"""Finds plugins, checks them, and turns a pipeline into stages. Nothing heavy is imported here."""

from .discovery import Candidate, installed_plugins
from .planner import Plan, Planner
from .registry import Registered, Registry

__all__ = ["Candidate", "Plan", "Planner", "Registered", "Registry", "installed_plugins"]
