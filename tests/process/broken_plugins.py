"""A plugin that passes the server's checks and fails in the worker."""

from offloop import Operation, Plugin


class Step(Operation, frozen=True):
    """Its one operation."""


class NoProcessor(Plugin):
    name = "no_processor"
    operations = (Step,)
    processor = "broken_import:Processor"
