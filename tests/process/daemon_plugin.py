"""A plugin that leaves processes in sessions of their own behind."""

import os
import subprocess
import time
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class StartDaemons(Operation, frozen=True):
    """Start one process that runs a program, and one that is a fork of the worker with its memory; return their pids."""


class DaemonPlugin(Plugin):
    name = "daemon"
    operations = (StartDaemons,)
    processor = "daemon_plugin:DaemonProcessor"


class DaemonProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        program = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(3600)
            os.write(writer, b"%d" % grandchild)
            os._exit(0)
        os.waitpid(child, 0)
        forked = int(os.read(reader, 20))
        os.close(reader)
        os.close(writer)
        return Encoded(b"", {"pids": [program.pid, forked]})
