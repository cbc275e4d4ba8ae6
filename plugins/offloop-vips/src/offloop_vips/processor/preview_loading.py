"""Loader of the small picture for a preview: the first scans of a progressive JPEG, or else the decoded picture."""

from __future__ import annotations

from dataclasses import replace

from offloop.processor import Encoded, Payload

from ..evaluation import Evaluation
from ..headers.formats import FormatName
from ..picture import Picture
from ..pipeline import Pipeline, load_shrink_factor
from ..previews import preview_pipeline
from .first_scans import first_scans
from .loading import load_encoded

__all__ = ["PreviewLoader"]


class PreviewLoader:
    """Loads the picture of one preview.

    A progressive JPEG has a decode of its own, of its first scans. Otherwise the picture is decoded into memory once, for
    preview and result, because a second decode of a JPEG takes half of the time of the first one, even with less detail.
    """

    def __init__(
        self, payload: Payload, picture: Picture, source: FormatName | None, pipeline: Pipeline, evaluation: Evaluation
    ) -> None:
        """Decide how to load.

        Args:
            payload: the source.
            picture: the picture of the pipeline, before its first step.
            source: format of the source; None: it is a raster.
            pipeline: the pipeline, which has a preview.
            evaluation: the computations of the preview.
        """
        assert pipeline.preview is not None
        self.evaluation = evaluation
        self.picture = picture
        self.pipeline = preview_pipeline(pipeline, pipeline.preview, picture.logical_size)
        """Pipeline of the preview."""
        self._own_source: Encoded | None = None
        if source == "jpeg" and isinstance(payload, Encoded):
            stored = picture.unshrunk_size or picture.page_size
            shrink = load_shrink_factor(self.pipeline, source, stored, picture.orientation, has_alpha=False)
            with memoryview(payload.data)[:] as data:
                scans = first_scans(data) if shrink > 1 else None
            self._own_source = None if scans is None else Encoded(scans)

    @property
    def has_own_decode(self) -> bool:
        """Whether the preview is decoded from the source, and not made of the decoded picture."""
        return self._own_source is not None

    def load(self) -> Picture:
        """Returns the picture for the steps of the preview. The source must exist until `evaluation.release`."""
        if self._own_source is not None:
            return load_encoded(self._own_source, "jpeg", self.pipeline, self.evaluation)
        picture = replace(self.picture, evaluation=self.evaluation)
        width, height = picture.page_size
        return picture if picture.pages == 1 else replace(picture, image=picture.image.crop(0, 0, width, height), pages=1)
