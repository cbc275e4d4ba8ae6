"""Conformance kits: tests that a plugin of a kind must pass. A test module of the plugin subclasses one of them.

class TestMyPlugin(ProcessorConformance):
    subject = ProcessorSubject(plugin=MyPlugin, source=b"...", pipeline=[MyOperation()])
"""

from .pictures import PictureConformance, PictureSubject
from .processors import ProcessorConformance, ProcessorSubject

__all__ = ["PictureConformance", "PictureSubject", "ProcessorConformance", "ProcessorSubject"]
