"""The command line: `offloop convert` and `offloop doctor`.

    app                   the group of commands, and the exit code of the process
    convert, doctor       one command each: its options and its steps

    recipe, selection     the pipeline and the output name of a picture; the files to convert and their outputs
    batch, display        converts the files in a pool; shows progress, outcomes and a summary
    standard_streams      converts stdin to stdout
    examination, trial    what a pool could use on this machine; one real conversion
    wording, event_loop   text for sizes, names and errors; the event loop of the commands

It needs click and rich, which come with the extra `offloop[cli]`, because a server does not need them.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> int:
    """Run the command of this process's arguments. Returns the exit code."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f'offloop: the command line needs {" and ".join(missing)}: pip install "offloop[cli]"\n')
        return 1
    from .app import run  # noqa: PLC0415 (because it cannot be imported without click and rich)

    return run()
