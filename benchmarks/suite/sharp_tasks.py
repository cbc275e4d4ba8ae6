"""The two tasks that sharp publishes: their sources, their steps in sharp, and references to compare the results with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["TASKS", "SharpTask", "make_sources", "psnr"]


class SharpTask(NamedTuple):
    """A picture that is made smaller and encoded."""

    source: str  # name of the source file
    source_size: tuple[int, int, int]  # width, height, bands
    size: tuple[int, int]  # of the result
    steps: list[list[Any]]  # methods of sharp with their arguments
    least_psnr: float  # dB; an encoder without loss has more than 40, and a picture that is shifted by a pixel less than 30

    @property
    def reference(self) -> str:
        """The name of the file with the expected pixels."""
        return f"{self.source}-expected.png"


_ENCODED = {"compressionLevel": 6, "adaptiveFiltering": False}
TASKS = {
    "JPEG": SharpTask("sharp.jpg", (2725, 2225, 3), (720, 588), [["resize", 720, 588], ["jpeg", {"quality": 80}]], 32.0),
    "PNG": SharpTask("sharp.png", (2048, 1536, 4), (720, 540), [["resize", 720, 540], ["png", _ENCODED]], 35.0),
}


def make_sources(folder: Path) -> None:
    """Write the sources and the references, once; they are kept for the next run. Loads libvips."""
    for task in TASKS.values():
        if not (folder / task.reference).exists():
            image = _noisy(*task.source_size)
            image.write_to_file(str(folder / task.source), **({"Q": 90} if task.source.endswith("jpg") else {}))
            _reduced(folder / task.source, task.size).write_to_file(str(folder / task.reference))


def _noisy(width: int, height: int, bands: int) -> Any:
    """Smooth colours with noise, which are as hard to decode as a photograph; alpha is a soft disc."""
    import numpy as np
    import pyvips

    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 6, (height, width, 1)).astype(np.float32)
    waves = np.stack([np.sin(columns / 97), np.sin(rows / 71), np.sin((rows + columns) / 131)], axis=-1)
    colours = np.clip(128 + 90 * waves + noise, 0, 255)
    disc = np.clip(1.5 - np.hypot(columns / width - 0.5, rows / height - 0.5) * 2, 0, 1)[..., None] * 255
    picture = np.concatenate([colours, disc], axis=-1)[..., :bands].astype(np.uint8)
    image: Any = pyvips.Image.new_from_array(picture)
    return image.copy(interpretation="srgb")


def _reduced(source: Path, size: tuple[int, int]) -> Any:
    """The picture reduced by Lanczos3 in float, without shrinking while it is decoded."""
    import pyvips

    image: Any = pyvips.Image.new_from_file(str(source))
    has_alpha = image.bands == 4
    image = (image.premultiply() if has_alpha else image.cast("float")).resize(
        size[0] / image.width, vscale=size[1] / image.height, kernel="lanczos3"
    )
    return (image.unpremultiply() if has_alpha else image).rint().cast("uchar").copy(interpretation="srgb")


def psnr(name: str, result: bytes, folder: Path) -> float:
    """Returns the peak signal-to-noise ratio between a task's result and its reference, in dB, with colours weighted by alpha.

    Raises:
        AssertionError: the result has another size.
    """
    import numpy as np
    import pyvips

    task = TASKS[name]
    found: Any = pyvips.Image.new_from_buffer(result, "")
    expected: Any = pyvips.Image.new_from_file(str(folder / task.reference))
    assert (found.width, found.height, found.bands) == (*task.size, expected.bands), f"{name}: {found.width} x {found.height}"
    arrays = [np.asarray(image.numpy(), np.float64) for image in (found, expected)]
    if expected.bands == 4:
        arrays = [np.concatenate([array[..., :3] * array[..., 3:] / 255, array[..., 3:]], axis=-1) for array in arrays]
    error = float(np.mean((arrays[0] - arrays[1]) ** 2))
    return 99.0 if not error else 10 * float(np.log10(255**2 / error))
