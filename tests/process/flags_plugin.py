"""A plugin that says how the interpreter of its worker was started."""

import sys
from collections.abc import Sequence

import msgspec

import offloop
from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Flags(Operation, frozen=True):
    """Return the interpreter's flags, options, warning filters, path and arguments as JSON."""


class FlagsPlugin(Plugin):
    name = "flags"
    operations = (Flags,)
    processor = "flags_plugin:FlagsProcessor"


class FlagsProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        names = [name for name in dir(sys.flags) if name.islower() and not name.startswith("_")]
        flags: dict[str, object] = {name: getattr(sys.flags, name) for name in names}
        said = {
            "flags": {name: value for name, value in flags.items() if isinstance(value, int)},
            "options": sys._xoptions,
            "warnings": sys.warnoptions,
            "path": sys.path,
            "argv": sys.argv,
            "prefix": sys.prefix,
            "offloop": offloop.__file__,
        }
        return Encoded(msgspec.json.encode(said))
