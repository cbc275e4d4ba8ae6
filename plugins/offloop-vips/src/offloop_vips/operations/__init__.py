"""One operation, one file: its parameters, checked when they are made, and how it is carried out.

`apply` takes a picture and the parameters and returns a picture; it is called in a worker and speaks to libvips only through
the picture's own methods, so that these files can be imported where there is no pyvips. Encoders have `save` in its place.
"""

from .auto_orient import AutoOrient
from .avif import Avif
from .blur import Blur
from .decode import Decode
from .encoder import Encoder
from .grayscale import Grayscale
from .jpeg import Jpeg
from .png import Png
from .raw import Raw
from .resize import Resize
from .rotate import Rotate
from .sharpen import Sharpen
from .tint import Tint
from .webp import Webp

__all__ = [
    "AutoOrient",
    "Avif",
    "Blur",
    "Decode",
    "Encoder",
    "Grayscale",
    "Jpeg",
    "Png",
    "Raw",
    "Resize",
    "Rotate",
    "Sharpen",
    "Tint",
    "Webp",
]
