"""Starts the server process of one turn, and measures it from outside: memory and CPU time of it and all its descendants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tree_memory import TreeMemory

from suite.contenders import COMPILED
from suite.peers import Peers
from suite.records import Turn

__all__ = ["NODE_CONTENDERS", "SHARP", "TurnFailed", "take_turn"]

_HERE = Path(__file__).parent
_MIB = 1024 * 1024
_LIMIT_S = 600  # seconds of one turn
_CLOSING_S = 5  # seconds that a pool has to close; a broken one may hang

SHARP = "sharp"
NODE_CONTENDERS = ("sharp, one after another", "sharp, all at once", "sharp, a thread for each task", "piscina")


class TurnFailed(Exception):
    """A turn ended without figures. The text has what its process printed."""


def take_turn(question: str, contender: str, number: int, parameters: Mapping[str, Any], peers: Peers) -> Turn:
    """Run one turn in a process of its own.

    Raises:
        TurnFailed: the contender gave a wrong result, or its process ended early.
    """
    job = {"question": question, "contender": contender, "node_packages": peers.node_packages, **parameters}
    command = [(peers.compiled if contender == COMPILED else None) or peers.python, "-m", "suite.turn"]
    if contender in (*NODE_CONTENDERS, SHARP):
        command = ["node", str(_HERE / "node_turn.cjs")]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=_HERE.parent,
            start_new_session=True,  # so that what a broken pool leaves behind can be ended
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        limit = threading.Timer(_LIMIT_S, _end, [server.pid])
        limit.start()
        try:
            with TreeMemory(server.pid) as watched:
                _send(server.stdin, job)
                _hear(server.stdout)  # it is warm
                cpu_before, own_before = watched.cpu_s(), watched.cpu_of_root_s()
                watched.restart()
                _send(server.stdin, "go")
                figures = _hear(server.stdout)
                cpu_s, own_s = watched.cpu_s() - cpu_before, watched.cpu_of_root_s() - own_before
        except (BrokenPipeError, ValueError) as error:
            errors.seek(0)
            raise TurnFailed(f"{contender}: {error}\n{errors.read()[-4000:]}") from error
        finally:
            limit.cancel()
            server.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                server.wait(_CLOSING_S)
            _end(server.pid)
    measured = {"cpu_s": cpu_s, "server_cpu_s": own_s, "peak_mib": watched.peak_bytes / _MIB}
    return Turn(contender, number, measured | figures)


def _end(group: int) -> None:
    """End all processes of the turn that are left."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _send(lines: IO[str], what: object) -> None:
    lines.write(json.dumps(what) + "\n")
    lines.flush()


def _hear(lines: IO[str]) -> Any:
    line = lines.readline()
    if not line:
        raise ValueError("its process ended early")
    return json.loads(line)
