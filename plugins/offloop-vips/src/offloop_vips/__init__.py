"""Image operations for offloop, carried out by libvips in worker processes.

Importing this package is cheap and safe in a server: it brings the operations and the plugin, and neither pyvips nor numpy.

    formats, colours, fitting    pure: file formats, CSS colours, the arithmetic of sizes
    operations/                  one file each: the parameters and, as a function of a picture, how they are carried out
    pipeline                     pure: which operation may stand where, and by how much a decoder shrinks for it
    coding, boxes, tags          pure: how a source is coded, from its first bytes; the boxes of AVIF, the tags of TIFF and EXIF
    pages, admitting             pure: what a source declares, checked in a worker before a decoder is called
    estimates, costs             pure: what a pipeline is likely to take; the numbers for that
    plugin                       what offloop registers; reads headers without a decoder
    picture, evaluation          the image under way, and how its computation is watched and stopped
    opening, saving, faults      libvips: bytes to picture, picture to bytes, its errors to ours
    processor                    what offloop opens in a worker
"""

from .operations import (
    AutoOrient,
    Avif,
    Blur,
    Decode,
    Grayscale,
    Jpeg,
    Png,
    Raw,
    Resize,
    Rotate,
    Sharpen,
    Tint,
    Webp,
)
from .plugin import VipsPlugin

__all__ = [
    "AutoOrient",
    "Avif",
    "Blur",
    "Decode",
    "Grayscale",
    "Jpeg",
    "Png",
    "Raw",
    "Resize",
    "Rotate",
    "Sharpen",
    "Tint",
    "VipsPlugin",
    "Webp",
]
