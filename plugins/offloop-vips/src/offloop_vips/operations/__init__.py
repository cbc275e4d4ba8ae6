"""Image operations, one module each: the parameters, checked when they are made, and the function that applies them.

`apply` takes a picture and the parameters, and returns a picture. It runs in a worker and calls libvips only through methods of
the image, so that the server can import these modules without pyvips. Encoders have `prepare` and `save` instead.
"""

from .auto_orient import AutoOrient
from .avif import Avif
from .blur import Blur
from .decode import Decode
from .encoder import Encoder
from .grayscale import Grayscale
from .jpeg import Jpeg
from .png import Png
from .preview import Preview
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
    "Preview",
    "Raw",
    "Resize",
    "Rotate",
    "Sharpen",
    "Tint",
    "Webp",
]
