"""A plugin that logs, warns and prints."""

import logging
import warnings
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Talk(Operation, frozen=True):
    """Say the text in each way that there is."""

    text: str


class Fail(Operation, frozen=True):
    """Raise an exception, in a function that is called by another one."""


class LoggingPlugin(Plugin):
    name = "logging"
    operations = (Talk, Fail)
    processor = "logging_plugin:LoggingProcessor"


class LoggingProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        logger = logging.getLogger("library")
        for operation in operations:
            if isinstance(operation, Fail):
                fail()
            assert isinstance(operation, Talk)
            logger.debug("debug: %s", operation.text)
            logger.info("info: %s", operation.text)
            logger.warning("warning: %s", operation.text)
            try:
                int(operation.text)
            except ValueError:
                logger.exception("error: %s", operation.text)
            warnings.warn(f"careful: {operation.text}", UserWarning, stacklevel=1)
            print("printed:", operation.text)  # noqa: T201 (what it is for)
        return Encoded(b"said")


def fail() -> None:
    raise LookupError("as ordered")
