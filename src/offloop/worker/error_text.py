"""Text of an exception that plugin code has raised, whose own `__str__` may fail."""

from __future__ import annotations

__all__ = ["text_of"]


def text_of(error: BaseException) -> str:
    """Return the type and the text of an exception."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # includes SystemExit, because the text of an error must not end the worker
        return f"{type(error).__name__} (its text cannot be read)"
