"""Plugins whose loads go wrong in different ways, and one that loads well."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Good(Operation, frozen=True):
    """Return the source."""


class Exits(Operation, frozen=True):
    """Of a plugin whose load ends the process."""


class Hangs(Operation, frozen=True):
    """Of a plugin whose load never ends."""


class Raises(Operation, frozen=True):
    """Of a plugin whose load raises SystemExit."""


class Slow(Operation, frozen=True):
    """Of a plugin whose load takes a second."""


class GoodPlugin(Plugin):
    name = "good"
    operations = (Good,)
    processor = "load_plugins:GoodProcessor"


class ExitsPlugin(Plugin):
    name = "exits"
    operations = (Exits,)
    processor = "load_plugins:ExitsProcessor"


class HangsPlugin(Plugin):
    name = "hangs"
    operations = (Hangs,)
    processor = "load_plugins:HangsProcessor"


class RaisesPlugin(Plugin):
    name = "raises"
    operations = (Raises,)
    processor = "load_plugins:RaisesProcessor"


class SlowPlugin(Plugin):
    name = "slow"
    operations = (Slow,)
    processor = "load_plugins:SlowProcessor"


class GoodProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return Encoded(payload.data)


class ExitsProcessor(GoodProcessor):
    def open(self, worker: WorkerContext) -> None:
        os._exit(7)


class HangsProcessor(GoodProcessor):
    def open(self, worker: WorkerContext) -> None:
        time.sleep(3600)


class RaisesProcessor(GoodProcessor):
    def open(self, worker: WorkerContext) -> None:
        raise SystemExit("no model")


class SlowProcessor(GoodProcessor):
    def open(self, worker: WorkerContext) -> None:
        time.sleep(1.0)
