"""Shared-memory segments, the reservation of their pages, and the views that callers hold."""
