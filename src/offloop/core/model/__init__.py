"""Data without decisions: events, commands, tasks, worker slots and their states, blocks, settings."""
