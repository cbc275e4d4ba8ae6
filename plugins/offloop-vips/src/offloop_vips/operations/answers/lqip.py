"""LQIP: a tiny picture of low quality as a data URI."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any

from msgspec import Meta

from ...picture import Picture
from ..geometry.resize import Resize
from ..outputs.webp import Webp
from ..step import Step
from .answer import Answer

__all__ = ["Lqip"]


class Lqip(Answer, frozen=True):
    """Makes a placeholder that every browser shows: `info.lqip`, a WebP of some hundred bytes as a "data:" URI."""

    size: Annotated[int, Meta(ge=1, le=256)] = 16
    """Longer side of the picture in pixels."""

    quality: Annotated[int, Meta(ge=1, le=100)] = 40
    """Encoding quality, 1 to 100."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return (Resize(self.size, self.size, fit="inside", without_enlargement=True),)

    def answer(self, picture: Picture) -> dict[str, Any]:
        image = Webp().prepare(picture).image
        data = image.webpsave_buffer(keep="none", Q=self.quality, alpha_q=self.quality)
        return {"lqip": f"data:image/webp;base64,{b64encode(data).decode()}"}
