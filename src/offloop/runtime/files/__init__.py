"""Reads source files, and opens and publishes output files."""
