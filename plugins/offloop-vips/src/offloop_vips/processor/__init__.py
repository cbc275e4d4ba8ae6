"""The heavy half of the plugin, for workers only: the one package that imports pyvips. `VipsProcessor` is its entry point."""

from .vips_processor import VipsProcessor

__all__ = ["VipsProcessor"]
