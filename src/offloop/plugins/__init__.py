"""Finds plugins, checks them, and turns a pipeline into stages. Nothing heavy is imported here."""

from .discovery import Candidate, installed_plugins
from .registry import Registered, Registry

__all__ = ["Candidate", "Registered", "Registry", "installed_plugins"]
