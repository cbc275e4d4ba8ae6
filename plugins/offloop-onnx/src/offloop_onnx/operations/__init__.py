"""One module for each operation: its parameters. The processor has the computations."""

from .remove_background import RemoveBackground
from .restore import Restore
from .run_model import RunModel
from .upscale import Upscale

__all__ = ["RemoveBackground", "Restore", "RunModel", "Upscale"]
