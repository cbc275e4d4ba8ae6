"""The part that decides: events go in with the time, commands come out.

Nothing here awaits, reads a clock, owns a descriptor or logs, so every situation can be made in a test by naming it.
"""
