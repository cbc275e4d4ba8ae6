"""A plugin beside the faults: what a worker opens second."""

from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Greet(Operation, frozen=True):
    """Return b"hello"."""


class GreetingPlugin(Plugin):
    name = "greeting"
    operations = (Greet,)
    processor = "second_plugin:GreetingProcessor"


class GreetingProcessor:
    def open(self, worker: WorkerContext) -> None:
        print("greeting is loaded")  # noqa: T201 (how a test hears of it)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return Encoded(b"hello")
