"""Conformance kits: tests that a plugin of a kind must pass. A test module of the plugin subclasses one of them.

class TestMyPlugin(PictureConformance):
    subject = PictureSubject(plugin=MyPlugin, encoder=Png(), raw=Raw(), ...)
"""

from .pictures import PictureConformance, PictureSubject

__all__ = ["PictureConformance", "PictureSubject"]
