"""A plugin beside the faults: what a worker opens second."""

from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Greet(Operation, frozen=True):
    """Return b"hello"."""


class Tag(Operation, frozen=True):
    """Return the payload as it is, and add the text to the info of the result."""

    text: str


class GreetingPlugin(Plugin):
    name = "greeting"
    operations = (Greet, Tag)
    processor = "second_plugin:GreetingProcessor"


class GreetingProcessor:
    def open(self, worker: WorkerContext) -> None:
        print("greeting is loaded")  # noqa: T201 (how a test hears of it)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        for operation in operations:
            if isinstance(operation, Tag):
                task.add_info({"tag": operation.text, "media_type": "text/plain"})
                return payload
        return Encoded(b"hello")
