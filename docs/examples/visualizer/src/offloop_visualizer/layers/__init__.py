"""Layers of a frame: each draws over the layers before it."""

from .backdrop import Backdrop
from .bars import Bars
from .layer import Layer, Moment
from .progress_line import ProgressLine
from .sparks import Sparks
from .waveform import Waveform

__all__ = ["Backdrop", "Bars", "Layer", "Moment", "ProgressLine", "Sparks", "Waveform"]
