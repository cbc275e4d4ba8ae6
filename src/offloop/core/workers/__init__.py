"""Decisions about workers: their number, starts, replacements, retirement and timers."""
