"""The command line, on top of everything else: `offloop convert`, `offloop doctor`.

    app                   the commands under one name, and what a process says when it ends
    convert, doctor       one command each: its options, and in which order things are done

    recipe, selection     what is to be made of a picture; which files there are and where each one's output goes
    batch, display        converting them, a few at a time; what a person sees meanwhile and afterwards
    examination, trial    what this machine gives a pool; one real conversion
    wording, event_loop   how sizes, names and errors are written; which loop it all runs in

It needs click and rich, which a server does not: they come with the extra `offloop[cli]`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> int:
    """Carry out the command line of this process; returns the exit code."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f'offloop: the command line needs {" and ".join(missing)}: pip install "offloop[cli]"\n')
        return 1
    from .app import run  # noqa: PLC0415 (now that it can be imported)

    return run()
