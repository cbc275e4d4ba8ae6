"""Event stream, safe logging and memory monitor of the server."""
