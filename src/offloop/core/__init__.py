"""Sans-IO core of a pool: takes events and the time, returns commands.

No code here awaits, reads a clock, owns a descriptor or logs, so a test can construct every situation from events.
"""
