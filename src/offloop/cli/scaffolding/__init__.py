"""Writes new distributions from templates."""
