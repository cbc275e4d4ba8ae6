"""Isolation of a worker from its server, and limits: descriptors, parent death, terminal, priority, memory limits, sandbox."""
