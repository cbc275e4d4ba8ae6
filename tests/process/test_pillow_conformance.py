"""A tiny plugin over Pillow passes the conformance kit."""

from __future__ import annotations

from pillow_plugin import PillowLimit, PillowPlugin, PillowPng, PillowRaw, PillowResize, PillowTurn

from offloop.testing import PictureConformance, PictureSubject


class TestPillow(PictureConformance):
    subject = PictureSubject(
        plugin=PillowPlugin,
        encoder=PillowPng(),
        raw=PillowRaw(),
        resize=PillowResize,
        quarter_turn=PillowTurn(),
        limit=PillowLimit,
    )
