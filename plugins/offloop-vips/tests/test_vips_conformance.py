"""The plugin passes the conformance kit of offloop."""

from __future__ import annotations

from offloop.testing import PictureConformance, PictureSubject
from offloop_vips import Decode, Png, Raw, Resize, Rotate, VipsPlugin


class TestVips(PictureConformance):
    subject = PictureSubject(
        plugin=VipsPlugin,
        encoder=Png(),
        raw=Raw(),
        resize=lambda width, height: Resize(width, height, fit="fill"),
        quarter_turn=Rotate(90),
        limit=lambda pixels: Decode(max_pixels=pixels),
    )
