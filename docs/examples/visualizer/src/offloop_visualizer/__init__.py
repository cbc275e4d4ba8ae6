"""Plugin of offloop: frames of a music visualizer from a WAV file. A server that imports it does not import numpy."""

from .plugin import Palette, Visualize, VisualizerPlugin

__all__ = ["Palette", "Visualize", "VisualizerPlugin"]
