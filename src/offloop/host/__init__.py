"""Carries out what the core decides: processes, pipes, segments, timers. On anyio, so on asyncio, uvloop and trio."""
