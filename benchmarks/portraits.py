"""A portrait with known opacity: the outline of a person was traced by hand, and other photographs are put behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyvips

__all__ = ["BACKDROPS", "PLACES", "Portrait", "backdrop", "compose", "photograph", "place", "portrait"]

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
SIDE = 1024  # pixels of the portrait's side; the photograph has 512, and is enlarged
PLACES = tuple((scale, left, mirrored) for scale in (1.0, 0.85, 0.7, 0.55) for left, mirrored in ((0.2, False), (0.8, True)))
BACKDROPS = ("wall", "gradient", "rocket.jpg", "coffee.webp", "hubble-deep-field.jpg")

Array: TypeAlias = Any  # a numpy array

# outline of the person in astronaut.jpg with the helmet, as 1536th parts of its side, clockwise from the lower left
_OUTLINE = np.array([
    (115, 1540), (85, 1408), (72, 1330), (70, 1270), (62, 1190), (70, 1120), (80, 1030), (97, 960), (110, 920), (125, 870),
    (140, 815), (158, 785), (182, 765), (215, 725), (250, 688), (290, 660), (330, 628), (345, 612), (343, 590), (342, 565),
    (352, 558), (368, 562), (375, 540), (385, 515), (400, 492), (425, 470), (455, 455), (490, 448), (530, 446), (557, 447),
    (552, 420), (548, 393), (530, 385), (517, 360), (500, 340), (480, 320), (468, 290), (463, 255), (461, 215), (466, 185),
    (485, 160), (515, 140), (545, 125), (567, 112), (578, 95), (600, 78), (630, 62), (665, 50), (695, 47), (730, 53),
    (765, 65), (800, 82), (840, 100), (862, 122), (880, 150), (893, 180), (902, 210), (905, 245), (902, 285), (893, 320),
    (880, 345), (862, 365), (845, 382), (830, 402), (812, 410), (803, 410), (798, 440), (785, 470), (770, 495), (769, 522),
    (800, 538), (830, 562), (860, 595), (885, 630), (902, 660), (912, 690), (916, 708), (950, 728), (980, 750), (1003, 768),
    (1020, 780), (1040, 820), (1055, 860), (1070, 920), (1085, 990), (1093, 1040), (1105, 1046), (1150, 1036), (1200, 1032),
    (1260, 1036), (1320, 1060), (1370, 1090), (1420, 1140), (1450, 1190), (1470, 1250), (1485, 1310), (1490, 1355),
    (1508, 1368), (1520, 1400), (1528, 1450), (1540, 1480), (1540, 1540),
]) / 1536  # fmt: skip


class Portrait(NamedTuple):
    """A person with known opacity."""

    colours: Array  # shape (1024, 1024, 3), from 0 to 1; the person's own colours wherever the opacity is not 0
    alpha: Array  # shape (1024, 1024), from 0 to 1


def portrait() -> Portrait:
    """Returns the person. The soft edge lies inside of the outline, so that no pixel of it shows the studio."""
    colours = photograph("astronaut.jpg", SIDE, SIDE)
    inside: Any = pyvips.Image.new_from_array(_fill(_OUTLINE * SIDE, SIDE, 4))
    alpha = inside.gaussblur(3).linear(3.0, -2.0).numpy()  # a ramp of some pixels, inside of the outline
    return Portrait(colours, np.clip(alpha, 0, 1).astype(np.float32))


def place(person: Portrait, scale: float, left: float, mirrored: bool, above: float = 1.0, canvas: int = SIDE) -> Portrait:
    """Returns the person in a square picture.

    Args:
        person: the person.
        scale: height of the person, as a part of that of the picture.
        left: part of the free width that is to the left.
        mirrored: whether the person looks the other way.
        above: part of the free height that is above; 1: the person is at the lower edge.
        canvas: side of the picture in pixels.
    """
    side = round(canvas * scale)
    row, column = round((canvas - side) * above), round((canvas - side) * left)
    bands: Any = pyvips.Image.new_from_array(np.dstack([person.colours, person.alpha]).astype(np.float32))
    small = bands.resize(side / SIDE).crop(0, 0, side, side).numpy()[:, :: -1 if mirrored else 1]
    whole = np.zeros((canvas, canvas, 4), np.float32)
    whole[row : row + side, column : column + side] = np.clip(small, 0, 1)
    return Portrait(whole[..., :3], whole[..., 3])


def photograph(name: str, width: int, height: int) -> Array:
    """Returns a photograph of the documentation, cropped to the size, from 0 to 1."""
    image: Any = pyvips.Image.thumbnail(str(PHOTOS / name), width, height=height, crop="centre", size="both")
    return image.colourspace("srgb").numpy()[..., :3].astype(np.float32) / 255


def backdrop(name: str, height: int, width: int) -> Array:
    """Returns a background: a grey wall with noise, a gradient, or a photograph."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    if name == "wall":
        noise = np.random.default_rng(1).normal(0, 0.02, (height, width, 1))
        return np.clip(np.full((height, width, 3), 0.72) + noise, 0, 1).astype(np.float32)
    if name == "gradient":
        return np.stack([0.1 + 0.3 * rows / height, 0.35 + 0 * rows, 0.4 + 0.5 * columns / width], axis=-1)
    return photograph(name, width, height)


def compose(colours: Array, alpha: Array, behind: Array) -> Array:
    """Returns foreground over background."""
    return colours * alpha[..., None] + behind * (1 - alpha[..., None])


def _fill(outline: Array, side: int, samples: int) -> Array:
    """Returns the part of each pixel that lies inside of the outline, by the even-odd rule on `samples` lines a pixel."""
    steps = (np.arange(side * samples) + 0.5) / samples
    inside = np.zeros((side * samples, side * samples), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        crossed = (steps >= low) & (steps < high)
        if y0 == y1:
            continue
        crossing = x0 + (steps - y0) * (x1 - x0) / (y1 - y0)
        inside ^= crossed[:, None] & (steps[None, :] > crossing[:, None])
    return inside.reshape(side, samples, side, samples).mean(axis=(1, 3)).astype(np.float32)
